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
    """Return codes and scales whose error tr(E H_in Eᵀ H_out) is no larger; on a GPU, scales alone are fitted.

    Args:
        weight: (O, I) float32 that they stand for, turned where the level is, without what a low rank holds.
        level: of the codes.
        codes: as error feedback leaves them.
        metrics: (I, I) of inputs and (O, O) of outputs; None counts all rows alike.

    """
    plain = replace(level, rank=0, rotated=False)
    values_of = column_builder(level).code_values
    codes = _fitted(weight, plain, codes, metrics)
    if values_of is None or weight.device.type != "cpu":  # a GPU would wait for each of many small steps
        return codes
    values = values_of(level.bits or 8).to(weight.device)
    for _ in range(_TURNS):
        codes = _fitted(weight, plain, _chosen_again(weight, plain, codes, values, metrics), metrics)
    return codes


def _fitted(weight: Tensor, level: Level, codes: Codes, metrics: tuple[Tensor, Tensor | None]) -> Codes:
    rounded = unpack(pack(codes, level), level, weight.shape[1])
    return replace(codes, scale=refitted_scales(weight, rounded, codes.scale, level, metrics))


def _chosen_again(
    weight: Tensor, level: Level, codes: Codes, values: Tensor, metrics: tuple[Tensor, Tensor | None]
) -> Codes:
    half = len(values) // 2
    step = column_scale(codes.scale, level, weight.shape[1]).float().expand_as(weight)
    step = step if codes.mask is None else step * codes.mask
    ranks = descend(weight, codes.values.long() + half, Grid(values, step), metrics)
    return replace(codes, values=(ranks - half).to(codes.values.dtype))
