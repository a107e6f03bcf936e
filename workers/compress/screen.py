"""Cheap screening: drop levels that cannot be worth building, before any error feedback is run.

Proxy errors weigh each column's squared error by its activation energy (the Hessian's diagonal); sparsity adds the
energy of what it drops, rank scales the error by the share of the residual that it cannot hold. Plain levels always
stay; sparse and corrected ones stay unless another level is no larger and clearly better by proxy.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from space.level import Level
from workers.compress.gptq import damped
from workers.compress.packing import column_scale
from workers.compress.prune import prune_mask
from workers.compress.scales import search_scales

_FEEDBACK_GAIN = 0.5  # error feedback removes about half of what pruning drops (arXiv 2301.00774, table 1)
_MARGIN = 1.02


def screen_levels(
    weight: Tensor, hessian: Tensor, sizes: Mapping[Level, int], required: Sequence[Level] = ()
) -> list[Level]:
    """Return the levels worth building, in the order given.

    Args:
        weight: (O, I) float32.
        hessian: (I, I) float32.
        sizes: level -> stored bytes.
        required: levels that stay whatever the screening says.

    """
    errors = _proxy_errors(weight, hessian, list(sizes))

    def is_beaten(level: Level) -> bool:
        return any(
            other != level and size <= sizes[level] and errors[other] * _MARGIN <= errors[level]
            for other, size in sizes.items()
        )

    return [level for level in sizes if level.is_plain or level in required or not is_beaten(level)]


def _proxy_errors(weight: Tensor, hessian: Tensor, levels: Sequence[Level]) -> dict[Level, float]:
    energy = hessian.diagonal()
    rounding: dict[tuple[int, int | None], float] = {}
    dropped: dict[tuple[float, str], float] = {(0.0, "unstructured"): 0.0}
    shares = _residual_shares(weight, hessian, max(level.rank for level in levels))
    errors = {}
    for level in levels:
        plain = (level.bits or 16, level.group_size)
        if plain not in rounding:
            rounding[plain] = _rounding_error(weight, Level(*plain), energy)
        sparse = (level.sparsity, level.pattern)
        if sparse not in dropped:
            mask = prune_mask(weight, hessian, level, "wanda")
            dropped[sparse] = float((weight.square() * ~mask * energy).sum()) * _FEEDBACK_GAIN
        error = rounding[plain] * (1 - level.sparsity) + dropped[sparse]
        errors[level] = error * shares[level.rank]
    return errors


def _rounding_error(weight: Tensor, level: Level, energy: Tensor) -> float:
    assert level.bits is not None  # noqa: S101 (dense levels are not screened)
    half = 2 ** (level.bits - 1)
    scale = column_scale(search_scales(weight, level, energy), level, weight.shape[1])
    rounded = (weight / scale).round_().clamp_(-half, half - 1).mul_(scale)
    return float((rounded.sub_(weight).square_() * energy).sum())


def _residual_shares(weight: Tensor, hessian: Tensor, max_rank: int) -> list[float]:
    """Return the share of a 3-bit residual's whitened energy outside its first r components, r = 0 .. max_rank."""
    if max_rank == 0:
        return [1.0]
    level = Level(3, None)
    scale = search_scales(weight, level).float()
    residual = weight - (weight / scale).round_().clamp_(-4, 3).mul_(scale)
    root = torch.linalg.cholesky(damped(hessian).double()).float()
    energy = torch.linalg.svdvals(residual @ root).square()
    shares = 1 - energy.cumsum(0) / energy.sum()
    return [1.0, *shares[:max_rank].tolist()]
