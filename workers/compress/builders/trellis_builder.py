"""Symbols of a trellis: scales are the spread of a row, whole columns are decided at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from space.level import Level
from workers.compress.builders.builder import Builder, store_bit_stream
from workers.compress.builders.trellis import TrellisRounder
from workers.compress.builders.two_sided import two_sided_trellis
from workers.compress.gptq import Rounder
from workers.compress.rounding_outputs import Outputs
from workers.compress.scales import spread_scales
from workers.kernels.trellis_code import GAUSSIAN_ERROR


def _scales(weight: Tensor, level: Level, _: Tensor, mask: Tensor | None) -> Tensor:
    return spread_scales(weight, level, mask)


def _rounder(levels: Sequence[Level], rows: int, device: torch.device, outputs: Outputs) -> Rounder:
    if outputs.matter_to(levels):
        return two_sided_trellis(levels, outputs)
    return TrellisRounder([level.bits or 8 for level in levels], rows, device)


def _proxy_error(weight: Tensor, level: Level, scale: Tensor, energy: Tensor) -> float:
    """Return the error of Gaussian values of each row's spread."""
    assert level.bits is not None  # noqa: S101 (dense levels are not screened)
    spread = scale.square().expand_as(weight)
    return float((spread * energy).sum()) * GAUSSIAN_ERROR[level.bits]


TRELLIS_BUILDER = Builder(_scales, _rounder, _proxy_error, store_bit_stream, keeps_scales=False)
