"""What the symbols of EXL3's trellis stand for: codebook, order in a tile, and how bits lie in words (exllamav3, 2026).

A tile of 16 x 16 weights is one ring of 256 symbols. A weight's state is the last sixteen bits of the ring, up to and
with its own symbol; its value follows from the state by arithmetic alone, so that there is no table (QTIP, arXiv
2406.11235, calls such a code computed).
Shape legend: T tiles, K bits of a symbol.
"""

from functools import lru_cache

import torch
from torch import Tensor

from workers.kernels.exl3.exl3_format import MULTIPLIER

TILE = 16
RING = TILE * TILE
STATE_BITS = 16
STATES = 1 << STATE_BITS
_HALF_ONE, _HALF_STEP, _HALF_SHIFT = 0x6400, 0x1EEE, 0xC931
"""bits of float16 numbers: 1024, a step of about 1 / 147.7, and a shift of about -10.4"""


@lru_cache
def codebook() -> Tensor:
    """Return the (65536,) float32 values of all states: the sum of four bytes of a product, about Gaussian."""
    product = torch.arange(STATES, dtype=torch.int64) * MULTIPLIER & 0xFFFFFFFF
    total = sum((product >> 8 * i & 0xFF for i in range(4)), torch.zeros_like(product))
    return (total + 1024).float() * _half(_HALF_STEP) + _half(_HALF_SHIFT)


@lru_cache
def value_line() -> tuple[float, float]:
    """Return (step, first): the value of a state is about `first` + `step` * the sum of its four bytes."""
    return float(_half(_HALF_STEP)), float(codebook()[0])


def _half(bits: int) -> Tensor:
    signed = bits - (1 << 16) * (bits >> 15)
    return torch.tensor(signed, dtype=torch.int16).view(torch.float16).float()


@lru_cache
def tile_order() -> Tensor:
    """Return the (256,) place in a tile, row * 16 + column, of each weight of a ring: as tensor cores hold a tile."""
    order = []
    for thread in range(32):
        row, column = 2 * (thread % 4), thread // 4
        for right in (0, 8):
            order += [(row + down) * TILE + column + right for down in (0, 1, 8, 9)]
    return torch.tensor(order)


def pack_rings(symbols: Tensor, bits: int) -> Tensor:
    """Return the (T, 16 K) int16 words of (T, 256) symbols: most significant bit first, neighbouring words swapped."""
    shifts = torch.arange(bits - 1, -1, -1, device=symbols.device)
    stream = (symbols.to(torch.int64).unsqueeze(-1) >> shifts & 1).view(len(symbols), -1, STATE_BITS)
    weights = 1 << torch.arange(STATE_BITS - 1, -1, -1, device=symbols.device)
    words = (stream * weights).sum(-1).view(len(symbols), -1, 2).flip(-1).reshape(len(symbols), -1)
    return torch.where(words >= 1 << 15, words - STATES, words).to(torch.int16)


def unpack_states(words: Tensor, bits: int) -> Tensor:
    """Return the (T, 256) int32 states of (T, 16 K) int16 words: the sixteen bits that end with each symbol."""
    straight = words.view(len(words), -1, 2).flip(-1).reshape(len(words), -1).to(torch.int32) & (STATES - 1)
    last = torch.arange(1, RING + 1, device=words.device) * bits - 1  # the bit that a symbol ends with
    word, behind = last // STATE_BITS, STATE_BITS - 1 - last % STATE_BITS
    before = straight.index_select(1, (word - 1) % straight.shape[1]) << STATE_BITS
    before |= straight.index_select(1, word)
    return before.bitwise_right_shift_(behind.to(torch.int32)).bitwise_and_(STATES - 1)


def tile_values(words: Tensor, bits: int) -> Tensor:
    """Return the (T, 16, 16) float32 values of tiles, rows then columns, from their (T, 16 K) int16 words."""
    states = unpack_states(words, bits).index_select(1, tile_order().argsort().to(words.device))
    return codebook().to(words.device).index_select(0, states.flatten()).view(-1, TILE, TILE)
