"""Symmetric integers: scales by a search, rounded to the nearest."""

from collections.abc import Sequence

import torch
from torch import Tensor

from space.level import Level
from workers.compress.builders.builder import Builder, store_bit_stream
from workers.compress.builders.two_sided import two_sided_integers
from workers.compress.gptq import Rounder, integer_rounder
from workers.compress.rounding_outputs import Outputs
from workers.compress.scales import search_scales


def _rounder(levels: Sequence[Level], rows: int, device: torch.device, outputs: Outputs) -> Rounder:
    if outputs.matter_to(levels):
        return two_sided_integers(levels, outputs)
    halves = [2.0 ** ((level.bits or 8) - 1) for level in levels]
    return integer_rounder(torch.tensor(halves, device=device).repeat_interleave(rows))


def _proxy_error(weight: Tensor, level: Level, scale: Tensor, energy: Tensor) -> float:
    assert level.bits is not None  # noqa: S101 (dense levels are not screened)
    half = 2 ** (level.bits - 1)
    rounded = (weight / scale).round_().clamp_(-half, half - 1).mul_(scale)
    return float((rounded.sub_(weight).square_() * energy).sum())


def _code_values(bits: int) -> Tensor:
    half = 2 ** (bits - 1)
    return torch.arange(-half, half, dtype=torch.float32)


INTEGER_BUILDER = Builder(search_scales, _rounder, _proxy_error, store_bit_stream, True, _code_values)
