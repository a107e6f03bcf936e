"""Every level of one weight: rotate, prune, quantize with error feedback, settle, correct by a low rank.

Shape legend: O out_features, I in_features, N stacked rows (levels x O).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from space.codings.coding_table import CODINGS
from space.level import Level
from workers.compress.builders.builder import WholeBuilder
from workers.compress.builders.builder_table import BUILDERS, column_builder
from workers.compress.gptq import error_energy, gptq, output_energy
from workers.compress.lowrank import low_rank
from workers.compress.module_statistics import Statistics
from workers.compress.packing import Codes, pack
from workers.compress.prune import prune_mask
from workers.compress.rounding_inputs import Inputs
from workers.compress.rounding_outputs import Outputs
from workers.compress.settling.settled_codes import settled
from workers.kernels.rotation import rotate, rotate_hessian
from workers.kernels.trellis_code import SEGMENT_ROWS
from workers.kernels.unpack import column_scale, unpack

_MAX_STACKED_VALUES = 16_000_000  # bounds the memory of one GPTQ call to about 400 MB
_GPU_STACKED_VALUES = 64_000_000  # the same on a GPU, for which a call of any size takes as long


@dataclass(frozen=True, slots=True)
class BuiltLevel:
    """A level ready to store: packed tensors and the calibrated relative output error.

    It is tr(E H_in Eᵀ H_out) of the error E over the same of independent rows of the weight; where nothing is known of
    outputs, ||E X||² / ||W X||².
    """

    level: Level
    tensors: dict[str, Tensor]
    output_error: float


@dataclass(frozen=True, slots=True)
class _Sides:
    """What rounding knows of a module's inputs, turned where levels are, and of its outputs."""

    inputs: Inputs
    outputs: Outputs


class _Judge:
    """What errors of one weight cost."""

    def __init__(self, weight: Tensor, statistics: Statistics) -> None:
        self._weight, self._hessian, self.outputs = weight, statistics.hessian, Outputs(statistics)
        metric = self.outputs.metric
        self.signal = output_energy(weight, statistics.hessian, None if metric is None else metric.diagonal())

    def judged(self, level: Level, tensors: dict[str, Tensor]) -> BuiltLevel:
        """Return a level with its error."""
        error = self._weight - unpack(tensors, level, self._weight.shape[1])
        noise = error_energy(error, self._hessian, self.outputs.metric)
        return BuiltLevel(level, tensors, noise / max(self.signal, 1e-30))


def build_levels(
    weight: Tensor, statistics: Statistics, levels: Sequence[Level], scales: Mapping[Level, Tensor] | None = None
) -> list[BuiltLevel]:
    """Compress one weight at several levels; of a large one (an embedding) some rows at a time, corrections aside.

    Args:
        weight: (O, I) float32, on the device that is to compute.
        statistics: float32, there too; an identity as Hessian gives plain round-to-nearest.
        levels: no dense ones.
        scales: what screening found for plain levels, so that it is not searched again.

    Returns:
        one result per level, in order.

    """
    hessian = statistics.hessian
    built = _alone(weight, statistics, [v for v in levels if CODINGS[v.coding].stands_alone])
    for rotated in (False, True):
        if same := [v for v in levels if v.rotated == rotated and v not in built]:
            inputs = Inputs(rotate_hessian(hessian) if rotated else hessian)
            built |= {b.level: b for b in _build(weight, statistics, inputs, same, scales or {})}
    return [built[level] for level in levels]


def _alone(weight: Tensor, statistics: Statistics, levels: Sequence[Level]) -> dict[Level, BuiltLevel]:
    """Return levels of codings that stand alone."""
    built: dict[Level, BuiltLevel] = {}
    judge = _Judge(weight, statistics)
    for coding in dict.fromkeys(level.coding for level in levels):
        builder = BUILDERS[coding]
        assert isinstance(builder, WholeBuilder)  # noqa: S101 (the tables' tests hold codings against builders)
        found = builder.build(weight, statistics, [v for v in levels if v.coding == coding])
        built |= {v: judge.judged(v, tensors) for v, tensors in found.items()}
    return built


def _build(
    weight: Tensor, statistics: Statistics, inputs: Inputs, levels: Sequence[Level], scales: Mapping[Level, Tensor]
) -> list[BuiltLevel]:
    """Return levels that are all rotated or all not; the inputs are turned already where levels are."""
    if weight.numel() <= _stacked_values(weight.device):
        return _build_rows(weight, statistics, inputs, levels, scales)
    whole, by_rows = [v for v in levels if v.rank], [v for v in levels if not v.rank]
    count = max(1, _stacked_values(weight.device) // (4 * SEGMENT_ROWS * weight.shape[1])) * SEGMENT_ROWS
    parts = []
    for start in range(0, len(weight), count):
        rows, of_rows = weight[start : start + count], statistics.rows(start, start + count)
        parts.append((_Judge(rows, of_rows).signal, _build_rows(rows, of_rows, inputs, by_rows, {})))
    joined = [_joined([(signal, part[i]) for signal, part in parts]) for i in range(len(by_rows))]
    return joined + (_build_rows(weight, statistics, inputs, whole, {}) if whole else [])


def _joined(parts: Sequence[tuple[float, BuiltLevel]]) -> BuiltLevel:
    """Return the level of all rows from those of some rows each, with the energy of their outputs."""
    level, total = parts[0][1].level, sum(signal for signal, _ in parts)
    tensors = {name: torch.cat([part.tensors[name] for _, part in parts]) for name in parts[0][1].tensors}
    return BuiltLevel(level, tensors, sum(signal * part.output_error for signal, part in parts) / max(total, 1e-30))


def _build_rows(
    weight: Tensor, statistics: Statistics, inputs: Inputs, levels: Sequence[Level], scales: Mapping[Level, Tensor]
) -> list[BuiltLevel]:
    turned = rotate(weight) if levels and levels[0].rotated else weight
    judge = _Judge(weight, statistics)
    codes = _codes(turned, _Sides(inputs, judge.outputs), levels, scales)
    return [judge.judged(level, pack(codes[level], level)) for level in levels]


def _codes(
    weight: Tensor, sides: _Sides, levels: Sequence[Level], scales: Mapping[Level, Tensor]
) -> dict[Level, Codes]:
    """Return each level's codes; the weight is turned already where levels are."""
    masks = _masks(weight, sides.inputs.hessian, levels)
    codes: dict[Level, Codes] = {}
    for chunk in _chunks([v for v in levels if v.rank == 0] + _bases(levels), weight):
        codes |= _quantize(weight, sides, [(level, weight) for level in chunk], masks, scales)
    for chunk in _chunks([v for v in levels if v.rank > 0], weight):
        codes |= _with_correction(weight, sides, chunk, codes, masks)
    return codes


def _base(level: Level) -> Level:
    """Return the level without its low-rank correction."""
    return replace(level, rank=0)


def _bases(levels: Sequence[Level]) -> list[Level]:
    plain = set(levels)
    return sorted({_base(v) for v in levels if v.rank} - plain, key=str)


def _stacked_values(device: torch.device) -> int:
    return _MAX_STACKED_VALUES if device.type == "cpu" else _GPU_STACKED_VALUES


def _chunks(levels: Sequence[Level], weight: Tensor) -> list[list[Level]]:
    """Return lists of levels of one coding that fit into memory together."""
    size = max(1, _stacked_values(weight.device) // weight.numel())
    by_coding = [[v for v in levels if v.coding == coding] for coding in BUILDERS]
    return [same[i : i + size] for same in by_coding for i in range(0, len(same), size)]


def _masks(weight: Tensor, hessian: Tensor, levels: Sequence[Level]) -> dict[tuple[float, str], Tensor]:
    found: dict[tuple[float, str], Tensor] = {}
    for level in levels:
        key = (level.sparsity, level.pattern)
        if level.sparsity and key not in found:
            found[key] = prune_mask(weight, hessian, level)
    return found


def _quantize(
    weight: Tensor,
    sides: _Sides,
    jobs: Sequence[tuple[Level, Tensor]],
    masks: dict[tuple[float, str], Tensor],
    known_scales: Mapping[Level, Tensor],
) -> dict[Level, Codes]:
    """Quantize (level, weight to quantize) pairs of one coding in one stacked GPTQ call."""
    rows, columns = weight.shape
    level_masks = [masks.get((level.sparsity, level.pattern)) for level, _ in jobs]
    scales = [
        known_scales[v] if v in known_scales else column_builder(v).scales(w, v, sides.inputs.hessian.diagonal(), m)
        for (v, w), m in zip(jobs, level_masks, strict=True)
    ]
    per_column = [column_scale(s, v, columns).expand(rows, columns) for (v, _), s in zip(jobs, scales, strict=True)]
    everything = torch.ones(rows, columns, dtype=torch.bool, device=weight.device)
    stacked_mask = (
        torch.cat([everything if m is None else m for m in level_masks])
        if any(m is not None for m in level_masks)
        else None
    )
    stacked = [level for level, _ in jobs]
    rounder = column_builder(stacked[0]).rounder(stacked, rows, weight.device, sides.outputs)
    values = gptq(torch.cat([w for _, w in jobs]), torch.cat(per_column), rounder, sides.inputs, stacked_mask)
    parts = zip(jobs, values.split(rows), scales, level_masks, strict=True)
    return {
        level: settled(w, level, Codes(part, scale, m), (sides.inputs.hessian, sides.outputs.metric_of(level)))
        for (level, w), part, scale, m in parts
    }


def _with_correction(
    weight: Tensor,
    sides: _Sides,
    levels: Sequence[Level],
    codes: dict[Level, Codes],
    masks: dict[tuple[float, str], Tensor],
) -> dict[Level, Codes]:
    """Fit each level's factors to its base level's residual, then quantize what the factors leave."""
    factors, jobs = {}, []
    for level in levels:
        base = replace(level, rank=0, rotated=False)  # the weight is turned already
        rebuilt = unpack(pack(codes[_base(level)], base), base, weight.shape[1])
        left, right, factor_scale = low_rank(weight - rebuilt, sides.inputs, level.rank)
        factors[level] = (left, right, factor_scale)
        jobs.append((level, weight - (left.float() * factor_scale) @ right.float()))
    return {
        level: Codes(c.values, c.scale, c.mask, *factors[level])
        for level, c in _quantize(weight, sides, jobs, masks, {}).items()
    }
