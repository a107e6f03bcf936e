"""What every kernel does: packed values of one coding become numbers.

Shape legend: I in_features, n rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from space.level import Level

Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Kernel:
    """How values of one coding are unpacked.

    Attributes:
        values: (tensors of a module, level, in_features, (n,) rows or None for all) -> (n, I) float32 values before
            scaling, zero where pruned; the same bits whichever rows are asked for. Of a coding that stands alone: the
            weight itself.

    """

    values: Callable[[Tensors, Level, int, Tensor | None], Tensor]
