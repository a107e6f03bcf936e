"""Codes and scales of groups that are stored in few bits, improved in turns, as `settled_codes` does with free scales.

Shape legend: O out_features, I in_features, G groups, K values that a code may stand for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from space.level import Level
from workers.compress.gptq import error_energy
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import Inputs
from workers.compress.settling.coordinate_descent import Grid, descend
from workers.compress.settling.scale_refit import refitted_scales
from workers.kernels.unpack import column_scale

_TURNS = 2
_MAX_VALUES = 16_000_000  # rounded together
RoundRows = Callable[[Tensor, Inputs, Statistics, Level], dict[str, Tensor]]
"""(some rows of a weight, what is known of its inputs, the statistics of these rows, level) -> tensors of these rows"""


def build_by_rows(
    weight: Tensor, statistics: Statistics, levels: Sequence[Level], round_rows: RoundRows
) -> dict[Level, dict[str, Tensor]]:
    """Return level -> the tensors of its layout, made of some rows of an (O, I) weight at a time."""
    inputs, count = Inputs(statistics.hessian), max(1, _MAX_VALUES // weight.shape[1])
    some = [(start, start + count) for start in range(0, len(weight), count)]
    built = {}
    for level in levels:
        parts = [round_rows(weight[a:b], inputs, statistics.rows(a, b), level) for a, b in some]
        built[level] = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return built


@dataclass(frozen=True, slots=True)
class GridFit:
    """A weight on its way to a level: `values[rank] * scale + bias`.

    Attributes:
        ranks: (O, I) int64.
        scale: (O, G) float32, as it will be stored.
        bias: the same; None is zero.

    """

    ranks: Tensor
    scale: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True, slots=True)
class GroupGrids:
    """What is tried to make a fit better.

    Attributes:
        weight: (O, I) float32.
        level: plain, with the size of the groups.
        values: (K,) float32, rising.
        stored: scales or biases -> as they will be stored, in float32.
        metrics: (I, I) of inputs and (O, O) of outputs; None counts all rows alike.

    """

    weight: Tensor
    level: Level
    values: Tensor
    stored: Callable[[Tensor], Tensor]
    metrics: tuple[Tensor, Tensor | None]

    def improved(self, fit: GridFit) -> GridFit:
        """Return a fit whose errors cost no more: scales and biases, then codes and both once more."""
        fit = self._fitted(fit)
        for _ in range(_TURNS):
            fit = self._fitted(self._chosen_again(fit))
        return fit

    def spread(self, values: Tensor) -> Tensor:
        """Return (O, I) values of (O, G) groups."""
        return column_scale(values, self.level, self.weight.shape[1]).expand_as(self.weight)

    def _chosen_again(self, fit: GridFit) -> GridFit:
        """Choose codes on the CPU, wherever the weight is: value after value is what a GPU is slow at."""
        step = self.spread(fit.scale).cpu().contiguous()
        offset = None if fit.bias is None else self.spread(fit.bias).cpu().contiguous()
        inner, outer = self.metrics
        on_cpu = inner.cpu(), None if outer is None else outer.cpu()
        ranks = descend(self.weight.cpu(), fit.ranks.cpu(), Grid(self.values.cpu(), step, offset), on_cpu)
        return replace(fit, ranks=ranks.to(self.weight.device))

    def _fitted(self, fit: GridFit) -> GridFit:
        """Return scales, then biases, fitted to the codes where that makes errors cost less."""
        values = self.values[fit.ranks]
        weight = self.weight if fit.bias is None else self.weight - self.spread(fit.bias)
        rounded = values * self.spread(fit.scale)
        scale = self.stored(refitted_scales(weight, rounded, fit.scale, self.level, self.metrics).float())
        fit = self._better(fit, replace(fit, scale=scale))
        if fit.bias is None:
            return fit
        rest = self.weight - values * self.spread(fit.scale)
        found = refitted_scales(rest, self.spread(fit.bias), fit.bias, self.level, self.metrics)
        return self._better(fit, replace(fit, bias=self.stored(found.float())))

    def _better(self, one: GridFit, other: GridFit) -> GridFit:
        return min((one, other), key=lambda fit: error_energy(self.weight - self._rebuilt(fit), *self.metrics))

    def _rebuilt(self, fit: GridFit) -> Tensor:
        rebuilt = self.values[fit.ranks] * self.spread(fit.scale)
        return rebuilt if fit.bias is None else rebuilt + self.spread(fit.bias)
