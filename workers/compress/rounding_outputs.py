"""What rounding uses of a module's outputs: the damped factor that prices errors, and how rows make up for each other.

Shape legend: O out_features, V levels.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from space.level import Level
from workers.compress.module_statistics import Statistics

_JUDGED_AS = 3  # bits whose damping all levels of a module are judged with


class Outputs:
    """The outputs of one module.

    Attributes:
        metric: (O, O) factor that errors are judged by; None where all rows count alike.
        order: (O,) rows, those last whose errors cost most: they are rounded first.

    """

    def __init__(self, statistics: Statistics) -> None:
        """Take the statistics; nothing is factorized yet."""
        self._statistics = statistics
        self._lower: dict[tuple[float | None, int], Tensor] = {}
        self.metric = statistics.output_metric(statistics.damping(_JUDGED_AS))

    @property
    def order(self) -> Tensor:
        """Return the (O,) rows by what their errors cost, rising."""
        factor = self._statistics.output_factor
        assert factor is not None  # noqa: S101 (asked only where some level has a damping)
        return torch.argsort(factor.diagonal(), stable=True)

    def matter_to(self, levels: Sequence[Level]) -> bool:
        """Tell whether some of the levels are rounded with the factor: on a CPU, for whose loops it is."""
        factor = self._statistics.output_factor
        if factor is None or factor.device.type != "cpu":
            return False
        return any(self.metric_of(level) is not None for level in levels)

    def factors(self, levels: Sequence[Level], segment: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the different (O, O) unit lower triangular factors of some levels, and the (V,) one of each.

        Args:
            levels: for each, the damping of its bits counts.
            segment: rows that are decided at once, and keep their order; with 1 they are in `order`. A factor holds
                within its segments how these rows know of each other, see `_inside`.

        """
        dampings = [self._statistics.damping(level.bits or 0) for level in levels]
        different = list(dict.fromkeys(dampings))
        stacked = torch.stack([self._factor(damping, segment) for damping in different])
        return stacked.numpy(), np.array([different.index(damping) for damping in dampings])

    def metric_of(self, level: Level) -> Tensor | None:
        """Return the (O, O) factor that a level is rounded with, or None."""
        return self._statistics.output_metric(self._statistics.damping(level.bits or 0))

    def _factor(self, damping: float | None, segment: int) -> Tensor:
        if (damping, segment) not in self._lower:
            metric = self._statistics.output_metric(damping)
            if metric is None:
                assert self._statistics.output_factor is not None  # noqa: S101 (else nothing is asked)
                metric = torch.eye(len(self._statistics.output_factor))
            self._lower[damping, segment] = _unit_lower(
                metric[self.order][:, self.order] if segment == 1 else metric, segment
            )
        return self._lower[damping, segment]


def _unit_lower(metric: Tensor, segment: int) -> Tensor:
    """Return L of H = L D Lᵀ, D block-diagonal in segments; L's own blocks, the identity, hold what D consists of."""
    lower = torch.linalg.cholesky(metric.double())
    if segment == 1:
        unit: Tensor = (lower / lower.diagonal()).float()
        return unit.contiguous()
    blocks: Tensor = lower.clone()
    for start in range(0, len(lower), segment):
        part = slice(start, start + segment)
        blocks[:, part] = torch.linalg.solve_triangular(lower[part, part], lower[:, part], upper=False, left=False)
        blocks[part, part] = _inside(lower[part, part] @ lower[part, part].T)
    unit = blocks.float()
    return unit.contiguous()


def _inside(block: Tensor) -> Tensor:
    """Return N below and d on the diagonal of D = Nᵀ diag(d) N, N unit lower triangular: rows go from the first on."""
    upper: Tensor = torch.linalg.cholesky(block.flip(0, 1)).flip(0, 1)  # D = U Uᵀ
    energy = upper.diagonal()
    inside: Tensor = (upper / energy).T.tril(-1) + torch.diag(energy.square())
    return inside
