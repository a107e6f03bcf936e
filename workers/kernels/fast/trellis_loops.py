"""Loops over rows of packed trellis symbols: times one vector in one pass, or unpacked for a product with many.

A row's values need the steps of the three rows before it in its segment (`trellis_code`), which are folded into its
bytes first. Loops are made and columns ordered as in `integer_loops`.
Shape legend: O out_features, U units of a row, S symbols of a unit, B bytes of a row, G groups, C codebook values.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from workers.kernels.fast.unit_order import HALF_EXPONENT, UNITS
from workers.kernels.trellis_code import SEGMENT_ROWS


@lru_cache
def trellis_rows(bits: int) -> Callable[..., None]:
    """Return what unpacks some rows, or multiplies them with one vector."""
    many, size = UNITS[bits]
    mask, kind = (1 << bits) - 1, np.int64 if size > 3 else np.int32  # bytes that it has room for

    def use_rows(rows: Any, stream: Any, halves: Any, span: int, steps: Any, code: Any, vector: Any, out: Any) -> None:
        """Fill `rows`, first and last, of (O, I) `out`, or of (O, 1) `out` by their products with (I,) `vector`.

        (B,) `steps` has the lowest bits of all symbols; `vector` is empty where rows are to be unpacked. A group has
        `span` units, and scales whose bits are in (O, G) uint16 `halves`.
        """
        count = stream.shape[1] // size
        units, lower, spread = np.empty(count, kind), np.empty(count, kind), np.empty(count, np.float32)
        own, raw = np.empty(stream.shape[1], np.uint8), np.empty(halves.shape[1], np.int32)
        scales, x = raw.view(np.float32), np.empty((many, len(vector) // many), np.float32)
        for j in range(x.shape[1]):
            for p in range(many):
                x[p, j] = vector[many * j + p]
        for o in range(rows[0], rows[1]):
            start = o // SEGMENT_ROWS * SEGMENT_ROWS
            length, place = min(SEGMENT_ROWS, len(stream) - start), o - start
            one, three = stream[start + (place - 1) % length], stream[start + (place - 3) % length]
            row, two = stream[o], stream[start + (place - 2) % length]
            for k in range(len(own)):
                own[k] = row[k] ^ (one[k] ^ three[k]) & steps[k]
            for g in range(len(raw)):
                raw[g] = (np.int32(halves[o, g]) & 0x7FFF) << 13 | (np.int32(halves[o, g]) & 0x8000) << 16
            for g in range(len(raw)):
                scale, part = scales[g] * HALF_EXPONENT, spread[g * span : (g + 1) * span]
                for j in range(len(part)):
                    part[j] = scale
            for j in range(count):
                u, v = np.int64(own[size * j]), np.int64(two[size * j])
                for b in range(1, size):
                    u |= np.int64(own[size * j + b]) << 8 * b
                    v |= np.int64(two[size * j + b]) << 8 * b
                units[j], lower[j] = u, v
            total = np.float32(0)
            for p in range(many):
                down = p * bits
                if x.shape[1]:
                    part = x[p]
                    for j in range(count):
                        value = code[(units[j] >> down & mask) * 2 + (lower[j] >> down & 1)]
                        total += value * part[j] * spread[j]
                else:
                    part = out[o, p * count : (p + 1) * count]
                    for j in range(count):
                        part[j] = code[(units[j] >> down & mask) * 2 + (lower[j] >> down & 1)] * spread[j]
            if x.shape[1]:
                out[o, 0] = total

    return use_rows
