"""Tiles of EXL3: a weight is turned on both sides and rounded tile by tile, with what is known of its outputs.

Shape legend: O out_features, I in_features, n rows.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor

from space.level import Level
from workers.compress.builders.builder import WholeBuilder
from workers.compress.exl3.exl3_rounding import Metric, round_weight
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import damped

GAUSSIAN_ERROR = {1: 0.273, 2: 0.0687, 3: 0.01745, 4: 0.00451, 5: 0.00115, 6: 0.0003, 7: 0.00008, 8: 0.00002}
"""bits -> mean squared error of unit Gaussian values (`python -m benchmarks.levels.exl3_encoder`)"""
_TURNED = 0.9  # geometric over arithmetic mean of what errors of columns cost, once columns are turned


def _build(weight: Tensor, statistics: Statistics, levels: Sequence[Level]) -> Mapping[Level, dict[str, Tensor]]:
    inputs, found = damped(statistics.hessian), dict[int, dict[str, Tensor]]()
    by_damping: dict[float | None, list[int]] = {}
    for level in levels:
        bits = level.bits or 0
        by_damping.setdefault(statistics.damping(bits), []).append(bits)
    for damping, bits_of_one in by_damping.items():
        found |= round_weight(weight, Metric(inputs, statistics.output_metric(damping)), bits_of_one)
    return {level: found[level.bits or 0] for level in levels}


def _proxy_error(weight: Tensor, level: Level, energy: Tensor) -> float:
    """Return the error of Gaussian values of the weight's spread; turning leaves the geometric mean of energies."""
    mean = energy.clamp_min(1e-30).double().log().mean().exp() / _TURNED
    return float(weight.square().sum() * mean) * GAUSSIAN_ERROR[level.bits or 0]


EXL3_BUILDER = WholeBuilder(_build, _proxy_error, needs=("hessian", "output_factor"))
