"""Scales fitted once more after rounding, in closed form: the values stay, and what errors cost falls.

Scales S of groups are the least squares solution of tr(E H_in Eᵀ H_out), E = W - Q S with the rounded values Q: found,
or nearly, by conjugate gradients.
Shape legend: O out_features, I in_features, G groups.
"""

import torch
from torch import Tensor

from space.level import Level
from workers.compress.gptq import error_energy
from workers.kernels.unpack import column_scale

_STEPS = {True: 4, False: 1}
"""whether there are groups -> steps of conjugate gradients: each takes as long as judging an error, more gain little"""


def refitted_scales(
    weight: Tensor, rounded: Tensor, scale: Tensor, level: Level, metrics: tuple[Tensor, Tensor | None]
) -> Tensor:
    """Return (O, G) float16 scales; those given, where fitting makes nothing better.

    Args:
        weight: (O, I) float32, turned where the level is.
        rounded: (O, I) float32 what the level holds for it, with the scales given.
        scale: (O, G) float16.
        level: its groups.
        metrics: (I, I) of inputs and (O, O) of outputs; None counts all rows alike.

    """
    fit = _Fit(weight, rounded, scale, level, metrics)
    found = fit.solved().half()
    return found if fit.loss(found) < fit.start_loss else scale


class _Fit:
    """The linear system of one weight's scales; `start_loss` is what errors cost with those given."""

    def __init__(
        self, weight: Tensor, rounded: Tensor, scale: Tensor, level: Level, metrics: tuple[Tensor, Tensor | None]
    ) -> None:
        self._weight, self._level, self._start, (self._inner, self._outer) = weight, level, scale.float(), metrics
        spread = column_scale(scale, level, weight.shape[1])
        self._values = torch.where(spread != 0, rounded / spread, torch.zeros_like(rounded))
        error = weight - rounded
        cost = self._cost(error)
        self.start_loss = float((cost * error).sum(dtype=torch.float64))
        self._left = self._folded(self._values * cost)

    def loss(self, scale: Tensor) -> float:
        """Return what errors cost with some scales; infinite where they are not finite."""
        error = self._weight - self._with(scale.float())
        return error_energy(error, self._inner, self._outer) if bool(torch.isfinite(scale).all()) else float("inf")

    def solved(self) -> Tensor:
        """Return the (O, G) scales after some steps of conjugate gradients, preconditioned by the diagonal."""
        scale, left = self._start.clone(), self._left
        curvature = self._folded(self._values.square() * self._inner.diagonal())
        if self._outer is not None:
            curvature *= self._outer.diagonal()[:, None]
        curvature.clamp_min_(1e-20)
        direction = scaled = left / curvature
        energy = self._total(left * scaled)
        for _ in range(_STEPS[self._level.group_size is not None]):
            moved = self._folded(self._values * self._cost(self._with(direction)))
            length = energy / self._total(direction * moved).clamp_min(1e-30)
            scale += length * direction
            left = left - length * moved
            scaled = left / curvature
            before, energy = energy, self._total(left * scaled)
            direction = scaled + energy / before.clamp_min(1e-30) * direction
        return scale

    def _total(self, products: Tensor) -> Tensor:
        """Return the sum of (O, G) products; of each row for itself where rows do not know of each other."""
        return products.sum() if self._outer is not None else products.sum(1, keepdim=True)

    def _with(self, scale: Tensor) -> Tensor:
        return self._values * column_scale(scale, self._level, self._values.shape[1])

    def _cost(self, change: Tensor) -> Tensor:
        """Return H_out C H_in of an (O, I) change C of the weight."""
        cost = change @ self._inner
        return cost if self._outer is None else self._outer @ cost

    def _folded(self, columns: Tensor) -> Tensor:
        """Return (O, G) sums over the columns of groups."""
        size = self._level.group_size or columns.shape[1]
        padded = torch.nn.functional.pad(columns, (0, -columns.shape[1] % size))
        return padded.view(len(columns), -1, size).sum(-1)
