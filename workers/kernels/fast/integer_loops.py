"""Loops over rows of packed integers: times one vector in one pass, or unpacked for a product with many.

Loops are made for one bit-width each, so that what depends on it is settled when they are compiled; none calls another,
so that compiled ones are found again on disk. Columns are in the order of `unit_order`.
Shape legend: O out_features, U units of a row, S symbols of a unit, B bytes of a row, G groups.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from workers.kernels.fast.unit_order import HALF_EXPONENT, UNITS


@lru_cache
def integer_product(bits: int) -> Callable[..., None]:
    """Return the product of some rows with one vector."""
    many, size = UNITS[bits]
    uint: Any = np.uint64 if size > 3 else np.uint32  # bytes that it has room for
    mask, half = uint((1 << bits) - 1), np.float32(1 << (bits - 1))

    def product(rows: Any, stream: Any, halves: Any, span: int, vector: Any, out: Any) -> None:
        """Fill `rows`, first and last, of (O,) `out`: (O, B) `stream` times an (I,) `vector`.

        A group has `span` units, and scales whose bits are in (O, G) uint16 `halves`.
        """
        count = len(vector) // many
        raw, spread = np.empty(halves.shape[1], np.int32), np.empty(count, np.float32)
        scales, sums, x = (
            raw.view(np.float32),
            np.zeros(halves.shape[1], np.float32),
            np.empty((many, count), np.float32),
        )
        for j in range(count):
            for p in range(many):
                x[p, j] = vector[many * j + p]
                sums[j // span] += x[p, j]
        x0, x1, x2, x3 = x[0], x[1 % many], x[2 % many], x[3 % many]
        x4, x5, x6, x7 = x[4 % many], x[5 % many], x[6 % many], x[7 % many]
        for o in range(rows[0], rows[1]):
            row, total = stream[o], np.float32(0)
            for g in range(len(raw)):
                raw[g] = (np.int32(halves[o, g]) & 0x7FFF) << 13 | (np.int32(halves[o, g]) & 0x8000) << 16
            for g in range(len(raw)):
                scale, part = scales[g] * HALF_EXPONENT, spread[g * span : (g + 1) * span]
                total -= half * sums[g] * scale
                for j in range(len(part)):
                    part[j] = scale
            for j in range(count):
                u = uint(row[size * j])
                if size > 1:
                    u = uint(u | uint(uint(row[size * j + 1]) << uint(8)) | uint(uint(row[size * j + 2]) << uint(16)))
                if size > 3:
                    u = uint(u | uint(uint(row[size * j + 3]) << uint(24)) | uint(uint(row[size * j + 4]) << uint(32)))
                if size > 5:
                    u = uint(u | uint(uint(row[size * j + 5]) << uint(40)) | uint(uint(row[size * j + 6]) << uint(48)))
                value = np.float32(np.int32(u & mask)) * x0[j]
                if many > 1:
                    value += np.float32(np.int32(uint(u >> uint(bits)) & mask)) * x1[j]
                if many > 2:
                    value += np.float32(np.int32(uint(u >> uint(2 * bits)) & mask)) * x2[j]
                    value += np.float32(np.int32(uint(u >> uint(3 * bits)) & mask)) * x3[j]
                if many > 4:
                    value += np.float32(np.int32(uint(u >> uint(4 * bits)) & mask)) * x4[j]
                    value += np.float32(np.int32(uint(u >> uint(5 * bits)) & mask)) * x5[j]
                    value += np.float32(np.int32(uint(u >> uint(6 * bits)) & mask)) * x6[j]
                    value += np.float32(np.int32(uint(u >> uint(7 * bits)) & mask)) * x7[j]
                total += value * spread[j]
            out[o] = total

    return product


@lru_cache
def integer_rows(bits: int) -> Callable[..., None]:
    """Return what unpacks some rows."""
    many, size = UNITS[bits]
    mask, half = (1 << bits) - 1, np.float32(1 << (bits - 1))
    uint: Any = np.int64 if size > 3 else np.int32  # bytes that it has room for

    def unpack_rows(rows: Any, stream: Any, halves: Any, span: int, out: Any) -> None:
        """Fill `rows`, first and last, of (O, I) `out`, whose columns are in planes."""
        count = out.shape[1] // many
        units, spread, raw = np.empty(count, uint), np.empty(count, np.float32), np.empty(halves.shape[1], np.int32)
        scales = raw.view(np.float32)
        for o in range(rows[0], rows[1]):
            row = stream[o]
            for g in range(len(raw)):
                raw[g] = (np.int32(halves[o, g]) & 0x7FFF) << 13 | (np.int32(halves[o, g]) & 0x8000) << 16
            for g in range(len(raw)):
                scale, part = scales[g] * HALF_EXPONENT, spread[g * span : (g + 1) * span]
                for j in range(len(part)):
                    part[j] = scale
            for j in range(count):
                u = np.int64(row[size * j])
                for b in range(1, size):
                    u |= np.int64(row[size * j + b]) << 8 * b
                units[j] = u
            for p in range(many):
                plane, down = out[o, p * count : (p + 1) * count], p * bits
                for j in range(count):
                    plane[j] = (np.float32(np.int32(units[j] >> down & mask)) - half) * spread[j]

    return unpack_rows
