"""What follows error feedback: codes chosen once more beside all others, and scales fitted to them, in turns.

Shape legend: O out_features, I in_features.
"""

from dataclasses import replace

from torch import Tensor

from space.level import Level
from workers.compress.builders.builder_table import column_builder
from workers.compress.packing import Codes, pack
from workers.compress.settling.coordinate_descent import Grid, descend
from workers.compress.settling.scale_refit import refitted_scales
from workers.kernels.unpack import column_scale, unpack

_TURNS = 2  # more of them gain a hundredth each, and take as long


def settled(weight: Tensor, level: Level, codes: Codes, metrics: tuple[Tensor, Tensor | None]) -> Codes:
    """Return codes and scales whose error tr(E H_in Eᵀ H_out) is no larger.

    Args:
        weight: (O, I) float32 that they stand for, turned where the level is, without what a low rank holds.
        level: of the codes.
        codes: as error feedback leaves them.
        metrics: (I, I) of inputs and (O, O) of outputs; None counts all rows alike.

    """
    plain = replace(level, rank=0, rotated=False)
    values_of = column_builder(level).code_values
    codes = _fitted(weight, plain, codes, metrics)
    if values_of is None:
        return codes
    values = values_of(level.bits or 8)
    for _ in range(_TURNS):
        codes = _fitted(weight, plain, _chosen_again(weight, plain, codes, values, metrics), metrics)
    return codes


def _fitted(weight: Tensor, level: Level, codes: Codes, metrics: tuple[Tensor, Tensor | None]) -> Codes:
    rounded = unpack(pack(codes, level), level, weight.shape[1])
    return replace(codes, scale=refitted_scales(weight, rounded, codes.scale, level, metrics))


def _chosen_again(
    weight: Tensor, level: Level, codes: Codes, values: Tensor, metrics: tuple[Tensor, Tensor | None]
) -> Codes:
    """Choose codes on the CPU, wherever the weight is: value after value is what a GPU is slow at."""
    half = len(values) // 2
    step = column_scale(codes.scale, level, weight.shape[1]).float().expand_as(weight)
    step = step if codes.mask is None else step * codes.mask
    inner, outer = (None if metric is None else metric.cpu() for metric in metrics)
    assert inner is not None  # noqa: S101 (the metric of inputs is always there)
    ranks = descend(weight.cpu(), codes.values.cpu().long() + half, Grid(values, step.cpu()), (inner, outer))
    return replace(codes, values=(ranks - half).to(codes.values))
