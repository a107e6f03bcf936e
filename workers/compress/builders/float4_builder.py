"""Floats of 4 bits: the scale of each group by a search of the stored ones, codes by error feedback, then in turns.

The largest of a group need not be the largest float: one step of a scale is up to an eighth of it (a half in MXFP4),
and the floats lie closest where values are small ("four over six", arXiv 2512.02010). So all stored scales around the
usual one are tried. Shape legend: O out_features, I in_features, G groups, S columns of one group, n rows.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from space.codings.float4_coding import FLOAT4_GROUPS, LARGEST, MXFP4, VALUES
from space.level import Level
from workers.compress.bit_packing import pack_bits
from workers.compress.builders.builder import WholeBuilder
from workers.compress.gptq import Rounder, gptq
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import Inputs
from workers.compress.rounding_outputs import Outputs
from workers.compress.settling.group_grids import GridFit, GroupGrids, build_by_rows
from workers.kernels.float4_kernel import group_scales, stored_scales

_RISING = (*(-value for value in reversed(VALUES[1:])), *VALUES)
_ZERO = len(VALUES) - 1  # rank of it
_SIGN = 8  # of a code
_STEPS = {True: (0, -1, 1), False: (0, -1, 1, -2, 2, -3, 3, 4, 5)}
"""whether scales are powers of two -> which stored ones beside the usual one are tried"""


def _build(weight: Tensor, statistics: Statistics, levels: Sequence[Level]) -> Mapping[Level, dict[str, Tensor]]:
    return build_by_rows(weight, statistics, levels, _rounded)


def _rounded(weight: Tensor, inputs: Inputs, statistics: Statistics, level: Level) -> dict[str, Tensor]:
    grouped = Level(level.bits, FLOAT4_GROUPS[level.coding])
    values = torch.tensor(_RISING, device=weight.device)
    metrics = inputs.hessian, Outputs(statistics).metric_of(level)
    grids = GroupGrids(weight, grouped, values, partial(_as_stored, level), metrics)
    scale = _searched(weight, level, inputs.hessian.diagonal())
    ranks = gptq(weight, grids.spread(scale), _rounder(values), inputs).long() + _ZERO
    fit = grids.improved(GridFit(ranks, scale))
    sizes = (fit.ranks - _ZERO).abs()
    codes = torch.where(fit.ranks < _ZERO, sizes + _SIGN, sizes)
    return {"qweight": pack_bits(codes, level.bits or 0), "scale": stored_scales(fit.scale, level)}


def _rounder(values: Tensor) -> Rounder:
    def round_column(targets: Tensor, _: Tensor, __: Tensor | None) -> tuple[Tensor, Tensor]:
        ranks = _ranks(targets, values)
        return (ranks - _ZERO).to(torch.int16), values[ranks]

    return round_column


def _ranks(targets: Tensor, values: Tensor) -> Tensor:
    return torch.bucketize(targets, (values[1:] + values[:-1]) / 2)


def _as_stored(level: Level, scale: Tensor) -> Tensor:
    return group_scales(stored_scales(scale, level), level)


def _searched(weight: Tensor, level: Level, importance: Tensor) -> Tensor:
    """Return (n, G) scales of an (n, I) weight: of the stored ones around the usual one, what loses least."""
    values, is_power = torch.tensor(_RISING, device=weight.device), level.coding == MXFP4.name
    groups_ngs = weight.view(len(weight), -1, FLOAT4_GROUPS[level.coding])
    weights_gs = importance.view(-1, FLOAT4_GROUPS[level.coding])
    usual = stored_scales(groups_ngs.abs().amax(-1) / LARGEST, level).int()
    least, most = (0, 254) if is_power else (1, 126)
    best = group_scales(usual.to(torch.uint8), level)
    best_error = torch.full_like(best, float("inf"))
    for step in _STEPS[is_power]:
        scale = group_scales((usual + step).clamp_(least, most).to(torch.uint8), level)
        rounded = values[_ranks(groups_ngs / scale[..., None], values)].mul_(scale[..., None])
        error = rounded.sub_(groups_ngs).square_().mul_(weights_gs).sum(-1)
        best = torch.where(error < best_error, scale, best)
        best_error = torch.minimum(error, best_error)
    return best


def _proxy_error(weight: Tensor, level: Level, energy: Tensor) -> float:
    values = torch.tensor(_RISING, device=weight.device)
    size = FLOAT4_GROUPS[level.coding]
    scale = _searched(weight, level, energy)[..., None]
    groups = weight.view(len(weight), -1, size)
    error = values[_ranks(groups / scale, values)].mul_(scale).sub_(groups).view_as(weight)
    return float((error.square_() * energy).sum())


FLOAT4_BUILDER = WholeBuilder(_build, _proxy_error, needs=("hessian", "output_factor"))
