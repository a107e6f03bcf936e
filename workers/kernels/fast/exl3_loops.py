"""Loops over EXL3's tiles: times one vector in one pass, or unpacked, in the turned basis, for a product with many.

Four threads' symbols of a tile are K words of 32 bits in a row. So the words of 64 such lanes, the tiles of a block of
128 outputs, are laid side by side, and each of the 32 places in a lane is one loop over all of them.
Shape legend: I in_features, O out_features, K bits.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from workers.kernels.exl3.exl3_format import MULTIPLIER

_LANES, _TILES = 64, 8  # of a block of 128 outputs
_MULTIPLIER, _BYTES, _STATE = np.uint32(MULTIPLIER), np.uint32(0x00FF00FF), np.uint32(0xFFFF)


@lru_cache
def exl3_product(bits: int) -> Callable[..., None]:
    """Return the product of the weight's rows in some blocks of outputs with one vector."""

    def product(blocks: Any, trellis: Any, line: Any, suh: Any, svh: Any, vector: Any, out: Any) -> None:
        """Fill `blocks`, first and last, of (O,) `out` by the weight times an (I,) `vector`.

        `trellis` is (I / 16, O / 16, 16 K) uint16, a value `line[1]` + `line[0]` * the sum of four bytes.
        """
        near, sums = np.empty((bits + 1, _LANES), np.uint32), np.empty((2, _LANES), np.float32)
        x, total = vector * suh, np.float32(0)
        for start in range(0, len(x), 128):
            for stage in range(7):
                half = 1 << stage
                for left in range(start, start + 128, 2 * half):
                    for i in range(left, left + half):
                        x[i], x[i + half] = x[i] + x[i + half], x[i] - x[i + half]
        for i in range(len(x)):
            total += x[i]
        for block in range(blocks[0], blocks[1]):
            sums[:] = 0
            for k in range(len(trellis)):
                for lane in range(_LANES):
                    words, at = trellis[k, block * _TILES + lane // 8], lane % 8 * 2 * bits
                    last = (at or 16 * bits) - 2
                    near[0, lane] = np.uint32(words[last]) | np.uint32(words[last + 1]) << np.uint32(16)
                    for w in range(bits):
                        low, high = words[at + 2 * w], words[at + 2 * w + 1]
                        near[w + 1, lane] = np.uint32(low) | np.uint32(high) << np.uint32(16)
                for place in range(32):
                    end, part = (place + 1) * bits - 1, sums[place % 8 // 4]
                    down, own, before = np.uint32(31 - end % 32), near[end // 32 + 1], near[end // 32]
                    value = x[16 * k + place // 8 * 2 + place % 2 + place % 4 // 2 * 8]
                    up = np.uint32(32) - down if down > 16 else np.uint32(16)
                    more = np.uint32(_STATE if down > 16 else 0)
                    for lane in range(_LANES):
                        state = np.uint32((own[lane] >> down) | ((before[lane] & more) << up)) & _STATE
                        hashed = np.uint32(np.uint32(state) * _MULTIPLIER)
                        pairs = np.uint32((hashed & _BYTES) + ((hashed >> np.uint32(8)) & _BYTES))
                        part[lane] += value * np.float32(np.int32(np.uint32(pairs + (pairs >> np.uint32(16))) & _STATE))
            turned = out[block * 128 : block * 128 + 128]
            for i in range(128):
                turned[i] = line[1] * total + line[0] * sums[i % 16 // 8, i // 16 * 8 + i % 8]
            for stage in range(7):
                half = 1 << stage
                for left in range(0, 128, 2 * half):
                    for i in range(left, left + half):
                        turned[i], turned[i + half] = turned[i] + turned[i + half], turned[i] - turned[i + half]
            for i in range(128):
                turned[i] *= svh[block * 128 + i] * np.float32(1 / 128)

    return product


@lru_cache
def exl3_values(bits: int) -> Callable[..., None]:
    """Return what unpacks the tiles of some blocks of outputs."""

    def unpack_tiles(blocks: Any, trellis: Any, line: Any, out: Any) -> None:
        """Fill `blocks`, first and last, of (I, O) `out`, in the turned basis and without scales."""
        near = np.empty((bits + 1, _LANES), np.uint32)
        for block in range(blocks[0], blocks[1]):
            for k in range(len(trellis)):
                for lane in range(_LANES):
                    words, at = trellis[k, block * _TILES + lane // 8], lane % 8 * 2 * bits
                    last = (at or 16 * bits) - 2
                    near[0, lane] = np.uint32(words[last]) | np.uint32(words[last + 1]) << np.uint32(16)
                    for w in range(bits):
                        low, high = words[at + 2 * w], words[at + 2 * w + 1]
                        near[w + 1, lane] = np.uint32(low) | np.uint32(high) << np.uint32(16)
                for place in range(32):
                    end = (place + 1) * bits - 1
                    down, own, before = np.uint32(31 - end % 32), near[end // 32 + 1], near[end // 32]
                    row = out[16 * k + place // 8 * 2 + place % 2 + place % 4 // 2 * 8]
                    first = block * 128 + place % 8 // 4 * 8
                    up = np.uint32(32) - down if down > 16 else np.uint32(16)
                    more = np.uint32(_STATE if down > 16 else 0)
                    for tile in range(_TILES):
                        part = row[first + 16 * tile : first + 16 * tile + 8]
                        for i in range(8):
                            lane = 8 * tile + i
                            state = np.uint32((own[lane] >> down) | ((before[lane] & more) << up)) & _STATE
                            hashed = np.uint32(np.uint32(state) * _MULTIPLIER)
                            pairs = np.uint32((hashed & _BYTES) + ((hashed >> np.uint32(8)) & _BYTES))
                            both = np.int32(np.uint32(pairs + (pairs >> np.uint32(16))) & _STATE)
                            part[i] = line[1] + line[0] * np.float32(both)

    return unpack_tiles
