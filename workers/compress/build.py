"""Every level of one weight: prune, then quantize with error feedback, then correct by a low rank; all levels at once.

Shape legend: O out_features, I in_features, N stacked rows (levels x O).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from space.level import Level
from workers.compress.gptq import gptq, output_energy
from workers.compress.lowrank import low_rank
from workers.compress.packing import Codes, column_scale, pack, unpack
from workers.compress.prune import prune_mask
from workers.compress.scales import search_scales

_MAX_STACKED_VALUES = 48_000_000  # bounds the memory of one GPTQ call to about 1 GB


@dataclass(frozen=True, slots=True)
class BuiltLevel:
    """A level ready to store: packed tensors and the calibrated relative output error ||(W-Q)X||²/||WX||²."""

    level: Level
    tensors: dict[str, Tensor]
    output_error: float


def build_levels(
    weight: Tensor, hessian: Tensor, levels: Sequence[Level], scales: Mapping[Level, Tensor] | None = None
) -> list[BuiltLevel]:
    """Compress one weight at several levels.

    Args:
        weight: (O, I) float32.
        hessian: (I, I) float32; the identity gives plain round-to-nearest.
        levels: no dense ones.
        scales: what screening found for plain levels, so that it is not searched again.

    Returns:
        one result per level, in order.

    """
    masks = _masks(weight, hessian, levels)
    codes: dict[Level, Codes] = {}
    for chunk in _chunks([v for v in levels if v.rank == 0] + _bases(levels), weight.numel()):
        codes |= _quantize(weight, hessian, [(level, weight) for level in chunk], masks, scales or {})
    for chunk in _chunks([v for v in levels if v.rank > 0], weight.numel()):
        codes |= _with_correction(weight, hessian, chunk, codes, masks)
    signal = output_energy(weight, hessian)
    return [_finish(weight, hessian, signal, level, codes[level]) for level in levels]


def _finish(weight: Tensor, hessian: Tensor, signal: float, level: Level, codes: Codes) -> BuiltLevel:
    tensors = pack(codes, level)
    noise = output_energy(weight - unpack(tensors, level, weight.shape[1]), hessian)
    return BuiltLevel(level, tensors, noise / max(signal, 1e-30))


def _base(level: Level) -> Level:
    """Return the level without its low-rank correction."""
    return Level(level.bits, level.group_size, level.sparsity, level.pattern)


def _bases(levels: Sequence[Level]) -> list[Level]:
    plain = set(levels)
    return sorted({_base(v) for v in levels if v.rank} - plain, key=str)


def _chunks(levels: Sequence[Level], num_values: int) -> list[list[Level]]:
    size = max(1, _MAX_STACKED_VALUES // num_values)
    return [list(levels[i : i + size]) for i in range(0, len(levels), size)]


def _masks(weight: Tensor, hessian: Tensor, levels: Sequence[Level]) -> dict[tuple[float, str], Tensor]:
    found: dict[tuple[float, str], Tensor] = {}
    for level in levels:
        key = (level.sparsity, level.pattern)
        if level.sparsity and key not in found:
            found[key] = prune_mask(weight, hessian, level)
    return found


def _quantize(
    weight: Tensor,
    hessian: Tensor,
    jobs: Sequence[tuple[Level, Tensor]],
    masks: dict[tuple[float, str], Tensor],
    known_scales: Mapping[Level, Tensor],
) -> dict[Level, Codes]:
    """Quantize (level, weight to quantize) pairs in one stacked GPTQ call."""
    rows, columns = weight.shape
    importance = hessian.diagonal()
    level_masks = [masks.get((level.sparsity, level.pattern)) for level, _ in jobs]
    scales = [
        known_scales[v] if v in known_scales else search_scales(w, v, importance, m)
        for (v, w), m in zip(jobs, level_masks, strict=True)
    ]
    per_column = [column_scale(s, v, columns).expand(rows, columns) for (v, _), s in zip(jobs, scales, strict=True)]
    halves = torch.tensor([2.0 ** ((level.bits or 8) - 1) for level, _ in jobs]).repeat_interleave(rows)
    everything = torch.ones(rows, columns, dtype=torch.bool)
    stacked_mask = (
        torch.cat([everything if m is None else m for m in level_masks])
        if any(m is not None for m in level_masks)
        else None
    )
    values = gptq(torch.cat([w for _, w in jobs]), torch.cat(per_column), halves, hessian, stacked_mask)
    parts = zip(jobs, values.split(rows), scales, level_masks, strict=True)
    return {level: Codes(part, scale, mask) for (level, _), part, scale, mask in parts}


def _with_correction(
    weight: Tensor,
    hessian: Tensor,
    levels: Sequence[Level],
    codes: dict[Level, Codes],
    masks: dict[tuple[float, str], Tensor],
) -> dict[Level, Codes]:
    """Fit each level's factors to its base level's residual, then quantize what the factors leave."""
    factors, jobs = {}, []
    for level in levels:
        base = codes[_base(level)]
        rebuilt = base.values.float() * column_scale(base.scale, level, weight.shape[1])
        left, right, factor_scale = low_rank(weight - rebuilt, hessian, level.rank)
        factors[level] = (left, right, factor_scale)
        jobs.append((level, weight - (left.float() * factor_scale) @ right.float()))
    return {
        level: Codes(c.values, c.scale, c.mask, *factors[level])
        for level, c in _quantize(weight, hessian, jobs, masks, {}).items()
    }
