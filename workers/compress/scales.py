"""Scales of groups: of integers by a search for the least weighted squared error, of a trellis by their spread.

Round-to-nearest with these scales is the data-free quantizer; GPTQ takes them as fixed ("static") scales.
Shape legend: O out_features, I in_features, G groups, S columns of one group.
"""

import torch
from torch import Tensor

from space.level import Level

_COARSE_BITS = 4  # at and below this many bits clipping pays, so the grid reaches further and tries both signs

_WIDENED = {2: 1.05}  # at two bits, what error feedback adds to later columns is felt


def spread_scales(weight: Tensor, level: Level, mask: Tensor | None = None) -> Tensor:
    """Return (O, G) float16 root mean squares of groups, as a codebook for values of variance one wants; see below."""
    groups_ogs, weights_ogs = _grouped(weight, level, None, mask)
    mean = groups_ogs.square().sum(-1) / weights_ogs.sum(-1).clamp_min(1)
    found: Tensor = (mean.sqrt() * _WIDENED.get(level.bits or 0, 1.0)).half()
    return found


def _ratios(bits: int) -> Tensor:
    return torch.linspace(0.52, 1.0, 17) if bits <= _COARSE_BITS else torch.linspace(0.85, 1.0, 6)


def search_scales(weight: Tensor, level: Level, importance: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """Return (O, G) float16 scales.

    The integers reach one step further below zero than above, so a negative scale is tried too (few bits only).

    Args:
        weight: (O, I) float32.
        level: bits and group size.
        importance: (I,) weight of each column's squared error; None counts all columns alike.
        mask: (O, I) bool, True where kept.

    """
    assert level.bits is not None  # noqa: S101 (dense levels have no scales)
    groups_ogs, weights_ogs = _grouped(weight, level, importance, mask)
    half = 2 ** (level.bits - 1)
    largest = groups_ogs.abs().amax(-1).clamp_min(1e-12)
    best_scale, best_error = largest / half, torch.full_like(largest, float("inf"))
    for sign in (1.0, -1.0) if level.bits <= _COARSE_BITS else (1.0,):
        for ratio in _ratios(level.bits).tolist():
            # float16 is what is stored, so it is what is judged
            scale = (largest * (sign * ratio / (half - 0.5))).half().float()
            scale = torch.where(scale == 0, torch.full_like(scale, 6e-8), scale)[..., None]
            rounded = (groups_ogs / scale).round_().clamp_(-half, half - 1).mul_(scale)
            error = rounded.sub_(groups_ogs).square_().mul_(weights_ogs).sum(-1)
            better = error < best_error
            best_error = torch.where(better, error, best_error)
            best_scale = torch.where(better, scale[..., 0], best_scale)
    found: Tensor = best_scale.half()
    return found


def _grouped(weight: Tensor, level: Level, importance: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return weights and their importance as (O, G, S), the last group padded with zeros of no importance."""
    rows, columns = weight.shape
    size = level.group_size or columns
    factors = torch.ones(columns, device=weight.device) if importance is None else importance / importance.mean()
    factors = factors.expand(rows, columns) if mask is None else factors * mask
    pad = (0, -columns % size)
    grouped = torch.nn.functional.pad(weight if mask is None else weight * mask, pad).view(rows, -1, size)
    return grouped, torch.nn.functional.pad(factors, pad).reshape(rows, -1, size)
