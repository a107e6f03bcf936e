"""Cheap screening: drop levels that cannot be worth building, before any error feedback is run.

Proxy errors weigh each column's squared error by what error feedback cannot move to later columns (1 / U_ii² of the
inverse Cholesky factor, the loss that GPTQ's algorithm sums); sparsity adds the energy of what it drops, rank scales
the error by the share of the residual that it cannot hold. Plain levels always stay; sparse and corrected ones stay
where they come near what plain levels reach at their size, interpolated between neighbours: a search that mixes levels
over many modules never chooses one that lies far above that line.
"""

from collections.abc import Mapping, Sequence
from math import log

import torch
from torch import Tensor

from space.level import Level
from workers.compress.gptq import inverse_factor
from workers.compress.packing import column_scale
from workers.compress.prune import prune_mask
from workers.compress.scales import search_scales

_MARGIN = 1.0


def screen_levels(
    weight: Tensor, hessian: Tensor, sizes: Mapping[Level, int], required: Sequence[Level] = ()
) -> tuple[list[Level], dict[Level, Tensor]]:
    """Return the levels worth building, in the order given, and the scales found for plain ones.

    Args:
        weight: (O, I) float32.
        hessian: (I, I) float32.
        sizes: level -> stored bytes.
        required: levels that stay whatever the screening says.

    """
    scales: dict[Level, Tensor] = {}
    errors = _proxy_errors(weight, hessian, list(sizes), scales)

    plain = sorted((sizes[level], log(errors[level])) for level in sizes if level.is_plain and errors[level] > 0)

    def is_worthwhile(level: Level) -> bool:
        if level.is_plain or level in required or not plain or errors[level] <= 0:
            return True
        if sizes[level] < plain[0][0]:  # no plain level is that small, and a budget may ask for it
            return True
        return log(errors[level]) <= _interpolated(plain, sizes[level]) + log(_MARGIN)

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
    importance = hessian.diagonal()
    energy = inverse_factor(hessian).diagonal().pow(-2)
    rounding: dict[tuple[int, int | None], float] = {}
    dropped: dict[tuple[float, str], float] = {(0.0, "unstructured"): 0.0}
    shares = _residual_shares(weight, energy, max(level.rank for level in levels))
    errors = {}
    for level in levels:
        plain = (level.bits or 16, level.group_size)
        if plain not in rounding:
            scales[Level(*plain)] = search_scales(weight, Level(*plain), importance)
            rounding[plain] = _rounding_error(weight, Level(*plain), scales[Level(*plain)], energy)
        sparse = (level.sparsity, level.pattern)
        if sparse not in dropped:
            mask = prune_mask(weight, torch.diag(energy), level, "wanda")
            dropped[sparse] = float((weight.square() * ~mask * energy).sum())
        error = rounding[plain] * (1 - level.sparsity) + dropped[sparse]
        errors[level] = error * shares[level.rank]
    return errors


def _rounding_error(weight: Tensor, level: Level, group_scale: Tensor, energy: Tensor) -> float:
    assert level.bits is not None  # noqa: S101 (dense levels are not screened)
    half = 2 ** (level.bits - 1)
    scale = column_scale(group_scale, level, weight.shape[1])
    rounded = (weight / scale).round_().clamp_(-half, half - 1).mul_(scale)
    return float((rounded.sub_(weight).square_() * energy).sum())


def _residual_shares(weight: Tensor, energy: Tensor, max_rank: int) -> list[float]:
    """Return the share of a 3-bit residual's energy outside its first r components, r = 0 .. max_rank."""
    if max_rank == 0:
        return [1.0]
    level = Level(3, None)
    scale = search_scales(weight, level).float()
    residual = weight - (weight / scale).round_().clamp_(-4, 3).mul_(scale)
    spectrum = torch.linalg.svdvals(residual * energy.sqrt()).square()
    shares = 1 - spectrum.cumsum(0) / spectrum.sum()
    return [1.0, *shares[:max_rank].tolist()]
