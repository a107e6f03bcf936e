"""Chooses how far output factors are trusted (damping): tried on integers, by KL on text that statistics did not see.

Shape legend: O out_features, I in_features.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from torch import Tensor

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.targets.target_table import is_legal
from workers.compress.build import build_levels
from workers.compress.module_statistics import Need, Statistics
from workers.kernels.unpack import unpack
from workers.levels.dampings import CANDIDATES, USUAL
from workers.levels.statistics import load_statistics
from workers.run.engine import Engine
from workers.run.held_weights import Unpack

MAX_BLOCKS = 4
"""blocks of a model that are tried, evenly spread; a small one has a quarter of them tried"""
NUM_SEQUENCES = 8
"""sequences of search text that they are chosen by"""
_GROUP_SIZE = 64
_MARGIN = 1.05  # a few blocks on a few sequences: dampings that differ by less are told apart by chance
Measure = Callable[[Plan, Unpack], float]
"""(plan, what gives the weights of its levels) -> KL divergence on the text to choose by"""


def choose_damping(
    engine: Engine, inventory: Inventory, folder: Path, bits: int, measure: Measure
) -> tuple[float | None, dict[str, float]]:
    """Return the damping to take, None where one-sided rounding has the least KL, and the KL of what was tried.

    It is the usual one where no other is clearly better.

    Args:
        engine: has the dense weights.
        inventory: of the model.
        folder: its statistics.
        bits: of the integers that are tried.
        measure: tells the KL.

    """
    level = Level(bits, _GROUP_SIZE)
    needs: tuple[Need, ...] = ("hessian", "output_factor")
    every = {m.name: load_statistics(folder, inventory, m.name, needs) for m in _tried(inventory, level)}
    some = {name: statistics for name, statistics in every.items() if statistics.output_factor is not None}
    found: dict[float | None, float] = {}
    for damping in CANDIDATES if some else ():
        plan = engine.dense_plan.replace(dict.fromkeys(some, level))
        weights = _weights(engine, some, level, damping)
        engine.release()  # a level of the same name is held with other weights
        found[damping] = measure(plan, partial(_unpacked, weights))
    engine.release()
    return _chosen(found), {str(damping): kl for damping, kl in found.items()}


def _chosen(found: Mapping[float | None, float]) -> float | None:
    """Return what to take of damping -> KL."""
    if not found:
        return None
    best = min(filter(None, found), key=lambda damping: found[damping] * (1 if damping == USUAL else _MARGIN))
    return best if found[best] < found[None] else min(found, key=lambda damping: found[damping])


def _unpacked(weights: Mapping[str, Tensor], name: str, _level: Level, _shape: object) -> Tensor:
    return weights[name]


def _weights(engine: Engine, some: Mapping[str, Statistics], level: Level, damping: float | None) -> dict[str, Tensor]:
    weights = {}
    for name, statistics in some.items():
        weight = engine.dense_weight(name)
        (built,) = build_levels(weight, replace(statistics, dampings={level.bits or 0: damping}), [level])
        weights[name] = unpack(built.tensors, level, weight.shape[1])
    return weights


def _tried(inventory: Inventory, level: Level) -> Sequence[ModuleInfo]:
    count = inventory.num_blocks
    tried = min(MAX_BLOCKS, max(1, count // 4))
    blocks = {count * i // tried + count // (2 * tried) for i in range(tried)} if count else set()
    return [m for m in inventory.modules if m.block in blocks and is_legal(m, level, "packed")]
