"""Cheap screening: drop levels that cannot be worth building, before any error feedback is run.

Proxy errors weigh each column's squared error by what error feedback cannot move to later columns (1 / U_ii² of the
inverse Cholesky factor, the loss that GPTQ's algorithm sums); a trellis has the error of Gaussian values of each row's
spread; sparsity adds the energy of what it drops, rank scales the error by the share of the residual that it cannot
hold. Levels stay where they come near what plain ones (without sparsity and rank) reach at their size, interpolated
between neighbours: a search that mixes levels over many modules never chooses one that lies far above that line.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log

import torch
from torch import Tensor

from space.level import Level
from workers.compress.builders.builder import Builder, WholeBuilder
from workers.compress.builders.builder_table import BUILDERS
from workers.compress.module_statistics import Statistics
from workers.compress.prune import prune_mask
from workers.compress.rounding_inputs import conditional_energy
from workers.compress.scales import search_scales
from workers.kernels.rotation import rotate, rotate_hessian
from workers.kernels.unpack import column_scale

_MAX_ROWS = 4096  # of a weight that errors are judged on: rows of a larger one are alike enough
_MARGIN = 1.0
_PLAIN_MARGIN = 1.3  # proxies of integers and of trellises do not err alike
_Sparse = tuple[float, str, bool]


@dataclass(frozen=True, slots=True)
class _View:
    """A weight as one kind of level sees it, turned or not: (O, I) weight, (I,) importance and (I,) energy."""

    weight: Tensor
    importance: Tensor
    energy: Tensor


def _view(weight: Tensor, hessian: Tensor) -> _View:
    return _View(weight, hessian.diagonal(), conditional_energy(hessian))


def screen_levels(
    weight: Tensor, statistics: Statistics, sizes: Mapping[Level, int], required: Sequence[Level] = ()
) -> tuple[list[Level], dict[Level, Tensor]]:
    """Return the levels worth building, in the order given, and scales of plain integers, if all rows were seen.

    Args:
        weight: (O, I) float32.
        statistics: of the module.
        sizes: level -> stored bytes.
        required: levels that stay whatever the screening says.

    """
    scales: dict[Level, Tensor] = {}
    stride = -(-len(weight) // _MAX_ROWS)
    errors = _proxy_errors(weight[::stride], statistics.hessian, list(sizes), scales)
    if stride > 1:
        scales.clear()

    plain = sorted((sizes[level], log(errors[level])) for level in sizes if level.is_plain and errors[level] > 0)

    def is_worthwhile(level: Level) -> bool:
        if level in required or not plain or errors[level] <= 0:
            return True
        if sizes[level] < plain[0][0]:  # no plain level is that small, and a budget may ask for it
            return True
        margin = _PLAIN_MARGIN if level.is_plain else _MARGIN
        return log(errors[level]) <= _interpolated(plain, sizes[level]) + log(margin)

    return [level for level in sizes if is_worthwhile(level)], scales


def _interpolated(points: Sequence[tuple[int, float]], size: int) -> float:
    """Return the log error that plain levels reach at a size, linear between the best ones around it."""
    below = min((p for p in points if p[0] <= size), key=lambda p: p[1], default=points[0])
    above = min((p for p in points if p[0] > size and p[1] < below[1]), default=below)
    if above == below:
        return below[1]
    share = (size - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])


def _proxy_errors(
    weight: Tensor, hessian: Tensor, levels: Sequence[Level], scales: dict[Level, Tensor]
) -> dict[Level, float]:
    """Return each level's proxy error, noting the scales it searched for."""
    views = {False: _view(weight, hessian)}
    if any(level.rotated for level in levels):
        views[True] = _view(rotate(weight), rotate_hessian(hessian))
    rounding: dict[Level, float] = {}
    dropped: dict[_Sparse, float] = {}
    shares = _residual_shares(weight, views[False].energy, max(level.rank for level in levels))
    errors = {}
    for level in levels:
        view, plain = views[level.rotated], replace(level, sparsity=0.0, pattern="unstructured", rank=0)
        builder = BUILDERS[plain.coding]
        if plain not in rounding and isinstance(builder, WholeBuilder):
            rounding[plain] = builder.proxy_error(view.weight, plain, view.energy)
        elif plain not in rounding and isinstance(builder, Builder):
            scale = builder.scales(view.weight, plain, view.importance, None)
            per_column = column_scale(scale, plain, weight.shape[1])
            rounding[plain] = builder.proxy_error(view.weight, plain, per_column, view.energy)
            if builder.keeps_scales and not plain.rotated:
                scales[plain] = scale
        sparse = (level.sparsity, level.pattern, level.rotated)
        if sparse not in dropped:
            dropped[sparse] = _dropped_energy(view, level)
        errors[level] = (rounding[plain] * (1 - level.sparsity) + dropped[sparse]) * shares[level.rank]
    return errors


def _dropped_energy(view: _View, level: Level) -> float:
    if level.sparsity == 0:
        return 0.0
    mask = prune_mask(view.weight, torch.diag(view.energy), level, "wanda")
    return float((view.weight.square() * ~mask * view.energy).sum())


def _residual_shares(weight: Tensor, energy: Tensor, max_rank: int) -> list[float]:
    """Return the share of a 3-bit residual's energy outside its first r components, r = 0 .. max_rank."""
    if max_rank == 0:
        return [1.0]
    level = Level(3, None)
    scale = search_scales(weight, level).float()
    residual = weight - (weight / scale).round_().clamp_(-4, 3).mul_(scale)
    whitened = residual.mul_(energy.sqrt())
    products = whitened @ whitened.T if len(whitened) <= len(energy) else whitened.T @ whitened
    spectrum = torch.linalg.eigvalsh(products).flip(0)  # squares of the singular values, without their decomposition
    shares = 1 - spectrum.cumsum(0) / spectrum.sum()
    return [1.0, *shares[:max_rank].tolist()]
