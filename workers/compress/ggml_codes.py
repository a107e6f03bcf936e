"""Where the blocks of ggml's scalar types have the codes of their columns, and what a code stands for.

A block is a head (scales) and a code per column; a value is `offset + step * code`, or `offset + step * table[code]`,
with offset and step of the head alone. Places are those of llama.cpp's `ggml-common.h` and `ggml-quants.c`; what a head
says is asked of ggml itself, by reading blocks whose codes are all the same.
Shape legend: N blocks, B columns of a block, S bytes of a block, P pieces of all codes of a block.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from space.codings.ggml_types import GGML_TYPES
from workers.kernels.ggml.ggml_library import dequantize

Place = Callable[[int], tuple[int, int]]
"""column -> (byte of the block, lowest bit in it)"""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bits of a code: how many, where they stand in the code, and where in the block."""

    bits: int
    code_bit: int
    place: Place


def _halves(first_byte: int, run: int) -> Piece:
    """Return four bits: a run of bytes has the columns of one run in its lower halves, those of the next above."""
    return Piece(4, 0, lambda c: (first_byte + c // (2 * run) * run + c % run, c // run % 2 * 4))


def _quarters(first_byte: int, code_bit: int = 0) -> Piece:
    """Return two bits: 32 bytes have four runs of 32 columns, one above the other."""
    return Piece(2, code_bit, lambda c: (first_byte + c // 128 * 32 + c % 32, c // 32 % 4 * 2))


def _planes(first_byte: int, code_bit: int) -> Piece:
    """Return one bit: 32 bytes have eight runs of 32 columns, one above the other."""
    return Piece(1, code_bit, lambda c: (first_byte + c % 32, c // 32))


def _stream(first_byte: int, bits: int, code_bit: int) -> Piece:
    """Return bits that follow one another."""
    return Piece(bits, code_bit, lambda c: (first_byte + c * bits // 8, c * bits % 8))


_PIECES: Mapping[str, tuple[Piece, ...]] = {
    "q4_0": (_halves(2, 16),),
    "q4_1": (_halves(4, 16),),
    "q5_0": (_halves(6, 16), _stream(2, 1, 4)),
    "q5_1": (_halves(8, 16), _stream(4, 1, 4)),
    "q8_0": (_stream(2, 8, 0),),
    "iq4_nl": (_halves(2, 16),),
    "q2_K": (_quarters(16),),
    "q3_K": (_quarters(32), _planes(0, 2)),
    "q4_K": (_halves(16, 32),),
    "q5_K": (_halves(48, 32), _planes(16, 4)),
    "q6_K": (Piece(4, 0, lambda c: (c // 128 * 64 + c % 64, c // 64 % 2 * 4)), _quarters(128, 4)),
    "iq4_xs": (_halves(8, 16),),
}
_UNEVEN = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
_TABLES: Mapping[str, tuple[int, ...]] = {
    "iq4_nl": _UNEVEN,
    "iq4_xs": _UNEVEN,
    "q8_0": tuple(range(-128, 128)),
}
"""type -> what its codes stand for in units of the step, rising, where that is not the code itself"""
SCALAR_TYPES = tuple(_PIECES)
"""types whose columns have a code each"""


class BlockCodes:
    """The codes in the blocks of one type.

    Attributes:
        type_name: of `SCALAR_TYPES`.
        num_codes: that a column may have.
        values: (num_codes,) float32 what codes stand for in units of the step, rising.

    """

    def __init__(self, type_name: str) -> None:
        """Find out where all pieces are."""
        self.type_name, self._type = type_name, GGML_TYPES[type_name]
        pieces = _PIECES[type_name]
        self.num_codes = 1 << sum(piece.bits for piece in pieces)
        found = [
            (c, *piece.place(c), piece.bits, piece.code_bit) for piece in pieces for c in range(self._type.columns)
        ]
        self._column, self._byte, self._shift, bits, self._code_bit = torch.tensor(found).T
        self._ones = (1 << bits) - 1
        taken = torch.zeros(self._type.block_bytes, dtype=torch.long)
        self._head = ~taken.index_add_(0, self._byte, self._ones << self._shift).to(torch.uint8)
        table = torch.tensor(_TABLES.get(type_name, tuple(range(self.num_codes))), dtype=torch.float32)
        self.values, self._middles = table, (table[1:] + table[:-1]) / 2

    def write(self, heads: Tensor, ranks: Tensor) -> Tensor:
        """Return (N, S) blocks: the heads of (N, S) others, and codes by the (N, B) int64 ranks of their values."""
        codes = ranks if self.type_name != "q8_0" else ranks - self.num_codes // 2  # bytes with a sign
        pieces = (codes[:, self._column] >> self._code_bit & self._ones) << self._shift
        body = torch.zeros(heads.shape, dtype=torch.long).index_add_(1, self._byte, pieces)
        return (heads & self._head) | body.to(torch.uint8)

    def grid(self, heads: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, B) float32 offset and step of the values that columns may have under the heads of blocks."""
        middle = self.num_codes // 2
        low, high = (self._all_at(heads, rank) for rank in (middle - 1, middle))
        step = (high - low) / (self.values[middle] - self.values[middle - 1])
        return low - step * self.values[middle - 1], step

    def _all_at(self, heads: Tensor, rank: int) -> Tensor:
        ranks = torch.full((len(heads), self._type.columns), rank)
        return dequantize(self.write(heads, ranks), self.type_name)

    def nearest(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return int64 ranks and float32 values of the codes nearest to values in units of the step."""
        ranks = torch.bucketize(wanted, self._middles)
        return ranks, self.values[ranks]


@lru_cache
def block_codes(type_name: str) -> BlockCodes:
    """Return the codes of a type; made once."""
    return BlockCodes(type_name)
