"""Floats of 8 bits: scales by a search over one octave, rounded to the nearest, ties to even.

A float's error is a share of its value, so that a scale twice as large changes next to nothing; what is searched is
where the values of a row fall between the steps of a mantissa.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from space.codings.float8_coding import LARGEST
from space.level import Level
from workers.compress.builders.builder import Builder, store_bit_stream
from workers.compress.gptq import Rounder
from workers.compress.rounding_outputs import Outputs

_RATIOS = (1.0, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875)
_LEAST = 6e-8  # of float16
_OFFSET = 128  # codes are signed, stored bytes are not


def _nearest(values: Tensor) -> Tensor:
    return values.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn)


def _scales(weight: Tensor, _: Level, importance: Tensor | None, mask: Tensor | None) -> Tensor:
    """Return (O, 1) float16 scales of an (O, I) weight."""
    kept = weight if mask is None else weight * mask
    largest = kept.abs().amax(1, keepdim=True)
    best_scale = torch.full_like(largest, _LEAST)
    best_error = torch.full_like(largest, float("inf"))
    for ratio in _RATIOS:
        scale = (largest * (ratio / LARGEST)).half().float().clamp_min(_LEAST)
        error = (_nearest(kept / scale).float() * scale - kept).square_()
        error = (error if importance is None else error * importance).sum(1, keepdim=True)
        best_scale = torch.where(error < best_error, scale, best_scale)
        best_error = torch.minimum(error, best_error)
    return best_scale.half()


def _rounder(_: Sequence[Level], __: int, ___: torch.device, ____: Outputs) -> Rounder:
    def round_column(targets: Tensor, _: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        rounded = _nearest(targets if keep is None else targets * keep)
        return rounded.view(torch.uint8).to(torch.int16) - _OFFSET, rounded.float()

    return round_column


def _proxy_error(weight: Tensor, _: Level, scale: Tensor, energy: Tensor) -> float:
    rounded = _nearest(weight / scale).float().mul_(scale)
    return float((rounded.sub_(weight).square_() * energy).sum())


FLOAT8_BUILDER = Builder(_scales, _rounder, _proxy_error, store_bit_stream, keeps_scales=True, needs=("hessian",))
