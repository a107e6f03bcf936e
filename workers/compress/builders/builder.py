"""What every builder of a coding does: scales and rounding of columns, or a whole weight where a coding stands alone.

Shape legend: O out_features, I in_features, G groups, K kept values per row, N stacked rows (levels x O).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from space.level import Level
from workers.compress.bit_packing import pack_bits
from workers.compress.gptq import Rounder
from workers.compress.module_statistics import Need, Statistics
from workers.compress.rounding_outputs import Outputs


@dataclass(frozen=True, slots=True)
class Builder:
    """How values of one coding that combines are made, column by column.

    Attributes:
        scales: ((O, I) weight, level, (I,) importance of columns, (O, I) mask or None) -> (O, G) float16 scales.
        rounder: (levels that are stacked, O, device, outputs) -> how (N,) values of a column are rounded.
        proxy_error: ((O, I) weight, level, (O, I) or (O, 1) scales, (I,) energy of columns) -> about the squared error
            that rounding leaves, for screening.
        store: ((O, K) unsigned kept values, bits) -> the tensors of the coding's layout.
        keeps_scales: what screening finds as scales is what building would find.
        code_values: bits -> (2^bits,) rising float32 values that each code may stand for, whatever its neighbours do;
            None where codes depend on one another.
        needs: parts of the statistics that it uses.

    """

    scales: Callable[[Tensor, Level, Tensor, Tensor | None], Tensor]
    rounder: Callable[[Sequence[Level], int, torch.device, Outputs], Rounder]
    proxy_error: Callable[[Tensor, Level, Tensor, Tensor], float]
    store: Callable[[Tensor, int], dict[str, Tensor]]
    keeps_scales: bool
    code_values: Callable[[int], Tensor] | None = None
    needs: tuple[Need, ...] = ("hessian", "output_factor")


@dataclass(frozen=True, slots=True)
class WholeBuilder:
    """How weights of a coding that stands alone are made, all of one at once.

    Attributes:
        build: ((O, I) weight, statistics, levels of the coding) -> level -> the tensors of its layout.
        proxy_error: (some rows of a weight, level, (I,) energy of columns) -> about the squared error that it leaves,
            for screening.
        needs: parts of the statistics that it uses.

    """

    build: Callable[[Tensor, Statistics, Sequence[Level]], Mapping[Level, dict[str, Tensor]]]
    proxy_error: Callable[[Tensor, Level, Tensor], float]
    needs: tuple[Need, ...] = ("hessian",)


def store_bit_stream(values: Tensor, bits: int) -> dict[str, Tensor]:
    """Return values as one bit stream per row; see `space.codings.coding.bit_stream`."""
    return {"qweight": pack_bits(values, bits)}
