"""Rings of EXL3's trellis, as its layout says."""

import torch
from torch import Tensor

from workers.kernels.exl3.exl3_code import STATE_BITS, STATES


def ring_states(symbols: Tensor, bits: int) -> Tensor:
    """Return the (T, 256) int64 states of rings of (T, 256) symbols."""
    states = torch.zeros_like(symbols, dtype=torch.int64)
    for back in range(-(-STATE_BITS // bits)):
        states |= symbols.to(torch.int64).roll(back, 1) << bits * back
    found: Tensor = states & (STATES - 1)
    return found
