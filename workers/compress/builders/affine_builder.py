"""Affine integers: the grid of each group by a search, codes by error feedback, then both once more in turns.

Less what the middle of its grid stands for, a group is one of symmetric integers, and is rounded as these are.
Shape legend: O out_features, I in_features, G groups, S columns of one group, n rows.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from space.codings.affine_coding import GROUP_OF
from space.level import Level
from workers.compress.bit_packing import pack_bits
from workers.compress.builders.builder import WholeBuilder
from workers.compress.builders.integer_builder import INTEGER_BUILDER
from workers.compress.gptq import gptq
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import Inputs
from workers.compress.rounding_outputs import Outputs
from workers.compress.settling.group_grids import GridFit, GroupGrids, build_by_rows

_COARSE_BITS = 4  # at and below this many bits clipping pays
_LEAST = 2.0**-24


def _build(weight: Tensor, statistics: Statistics, levels: Sequence[Level]) -> Mapping[Level, dict[str, Tensor]]:
    return build_by_rows(weight, statistics, levels, _rounded)


def _rounded(weight: Tensor, inputs: Inputs, statistics: Statistics, level: Level) -> dict[str, Tensor]:
    as_integers, outputs, top = _as_integers(level), Outputs(statistics), 2 ** (level.bits or 0)
    values = torch.arange(top, dtype=torch.float32, device=weight.device)
    metrics = inputs.hessian, outputs.metric_of(as_integers)
    grids = GroupGrids(weight, as_integers, values, _stored, metrics)
    scale, bias = _searched(weight, as_integers, inputs.hessian.diagonal())
    middle = scale * (top // 2) + bias
    rounder = INTEGER_BUILDER.rounder([as_integers], len(weight), weight.device, outputs)
    signed = gptq(weight - grids.spread(middle), grids.spread(scale), rounder, inputs)
    fit = grids.improved(GridFit(signed.long() + top // 2, scale, bias))
    assert fit.bias is not None  # noqa: S101 (given)
    return {
        "qweight": pack_bits(fit.ranks, level.bits or 0),
        "scales": fit.scale.bfloat16(),
        "biases": fit.bias.bfloat16(),
    }


def _as_integers(level: Level) -> Level:
    """Return the level of plain integers that has the same bits and groups."""
    return Level(level.bits, GROUP_OF[level.coding])


def _searched(weight: Tensor, level: Level, importance: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n, G) scales and biases of an (n, I) weight: of the grids within a group's range, what loses least."""
    groups_ngs = weight.view(len(weight), -1, level.group_size or 1)
    weights_gs = importance.view(-1, level.group_size or 1)
    low, high = groups_ngs.amin(-1), groups_ngs.amax(-1)
    middle, top = (low + high) / 2, 2 ** (level.bits or 0) - 1
    best_scale, best_bias, best_error = high - low, low, torch.full_like(low, float("inf"))
    for ratio in _ratios(level.bits or 0):
        scale = _stored((high - low) * ratio / top).clamp_min(_LEAST)
        bias = _stored(middle - scale * top / 2)
        error = (_nearest(groups_ngs, scale, bias, top) - groups_ngs).square_().mul_(weights_gs).sum(-1)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        best_scale, best_bias = torch.where(better, scale, best_scale), torch.where(better, bias, best_bias)
    return best_scale, best_bias


def _ratios(bits: int) -> list[float]:
    return torch.linspace(0.52, 1.0, 17).tolist() if bits <= _COARSE_BITS else torch.linspace(0.85, 1.0, 6).tolist()


def _nearest(groups_ngs: Tensor, scale: Tensor, bias: Tensor, top: int) -> Tensor:
    codes = ((groups_ngs - bias[..., None]) / scale[..., None]).round_().clamp_(0, top)
    return codes.mul_(scale[..., None]).add_(bias[..., None])


def _stored(values: Tensor) -> Tensor:
    return values.bfloat16().float()


def _proxy_error(weight: Tensor, level: Level, energy: Tensor) -> float:
    plain = _as_integers(level)
    scale, bias = _searched(weight, plain, energy)
    groups = weight.view(len(weight), -1, plain.group_size or 1)
    error = _nearest(groups, scale, bias, 2 ** (level.bits or 0) - 1).view_as(weight).sub_(weight)
    return float((error.square_() * energy).sum())


AFFINE_BUILDER = WholeBuilder(_build, _proxy_error, needs=("hessian", "output_factor"))
