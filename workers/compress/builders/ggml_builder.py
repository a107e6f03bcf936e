"""Blocks of ggml's types: scales by ggml's own code with importances of columns, codes by error feedback and once more.

Shape legend: O out_features, I in_features.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from space.level import Level
from workers.compress.builders.builder import WholeBuilder
from workers.compress.ggml_codes import SCALAR_TYPES
from workers.compress.ggml_rounding import choose_again, round_to_type
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import conditional_energy, damped, inverse_factor

_MAX_VALUES = 16_000_000  # rounded together
_GAUSSIAN_ERROR = {
    "iq1_s": 0.238,
    "iq1_m": 0.205,
    "iq2_xxs": 0.121,
    "iq2_xs": 0.0918,
    "iq2_s": 0.0632,
    "q2_K": 0.0738,
    "iq3_xxs": 0.0336,
    "iq3_s": 0.019,
    "q3_K": 0.0211,
    "iq4_xs": 0.00577,
    "iq4_nl": 0.00568,
    "q4_0": 0.00668,
    "q4_K": 0.00507,
    "q4_1": 0.00496,
    "q5_0": 0.00164,
    "q5_K": 0.00127,
    "q5_1": 0.00116,
    "q6_K": 0.000303,
    "q8_0": 2.89e-05,
}
"""type -> mean squared error of unit Gaussian values that ggml rounds"""
_UNFED = 2.2  # what blocks lose that cannot feed their error forward column by column, over those that can


@lru_cache(maxsize=1)  # by identity: types of one module follow one another
def _factors(hessian: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (I, I) feedback and the (I,) importances of columns, of those that are rounded one by one and others.

    Whatever a column loses is made good by those behind it as far as they can: its importance is what they cannot.
    """
    hessian = hessian.cpu() / hessian.diagonal().mean().clamp_min(1e-12).cpu()
    return inverse_factor(hessian), conditional_energy(hessian), damped(hessian).diagonal()


def _build(weight: Tensor, statistics: Statistics, levels: Sequence[Level]) -> Mapping[Level, dict[str, Tensor]]:
    feedback, conditional, plain = _factors(statistics.hessian)
    built = {}
    for level in levels:
        importance = conditional if level.coding in SCALAR_TYPES else plain
        rows = weight.cpu().split(max(1, _MAX_VALUES // weight.shape[1]))
        blocks = [round_to_type(part, feedback, importance, level.coding) for part in rows]
        if level.coding in SCALAR_TYPES:
            blocks = [_chosen_again(*pair, statistics, level) for pair in zip(rows, blocks, strict=True)]
        built[level] = {"blocks": torch.cat(blocks).to(weight.device)}
    return built


def _chosen_again(rows: Tensor, blocks: Tensor, statistics: Statistics, level: Level) -> Tensor:
    """Return the blocks of some rows; where these are not all, they count alone."""
    factor = statistics.output_metric(statistics.damping(level.bits or 0))
    metrics = statistics.hessian.cpu(), factor.cpu() if factor is not None and len(factor) == len(rows) else None
    return choose_again(rows, blocks, metrics, level.coding)


def _proxy_error(weight: Tensor, level: Level, energy: Tensor) -> float:
    spread = weight.square().mean(1, keepdim=True)
    unfed = 1.0 if level.coding in SCALAR_TYPES else _UNFED
    return float((spread * energy).sum()) * _GAUSSIAN_ERROR[level.coding] * unfed


GGML_BUILDER = WholeBuilder(_build, _proxy_error, ("hessian", "output_factor"))
