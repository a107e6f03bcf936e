"""What every builder of a coding does: scales of a weight, and the rounding of its columns.

Shape legend: O out_features, I in_features, G groups, K kept values per row, N stacked rows (levels x O).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from space.level import Level
from workers.compress.bit_packing import pack_bits
from workers.compress.gptq import Rounder


@dataclass(frozen=True, slots=True)
class Builder:
    """How values of one coding are made.

    Attributes:
        scales: ((O, I) weight, level, (I,) importance of columns, (O, I) mask or None) -> (O, G) float16 scales.
        rounder: (levels that are stacked, O, device) -> how (N,) values of a column are rounded.
        proxy_error: ((O, I) weight, level, (O, I) or (O, 1) scales, (I,) energy of columns) -> about the squared error
            that rounding leaves, for screening.
        store: ((O, K) unsigned kept values, bits) -> the tensors of the coding's layout.
        keeps_scales: what screening finds as scales is what building would find.

    """

    scales: Callable[[Tensor, Level, Tensor, Tensor | None], Tensor]
    rounder: Callable[[Sequence[Level], int, torch.device], Rounder]
    proxy_error: Callable[[Tensor, Level, Tensor, Tensor], float]
    store: Callable[[Tensor, int], dict[str, Tensor]]
    keeps_scales: bool


def store_bit_stream(values: Tensor, bits: int) -> dict[str, Tensor]:
    """Return values as one bit stream per row; see `space.codings.coding.bit_stream`."""
    return {"qweight": pack_bits(values, bits)}
