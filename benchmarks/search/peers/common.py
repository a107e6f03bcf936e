"""What the peers share: moves on plans, an archive of what was measured, and the knapsack on scores.

A method's `run(arena, budgets, seed)` returns bits -> plan within that many weight bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import numpy as np

from benchmarks.search.arena import Arena
from search.decide.knapsack import Knapsack, Option
from space.level import Level
from space.menu import SearchSpace
from space.plan import Plan

Budgets = Mapping[float, int]
"""bits -> weight bytes"""
Plans = dict[float, Plan]
Run = Callable[[Arena, Budgets, int], Plans]
Losses = Mapping[str, Mapping[Level, float]]
"""module name -> level -> loss, additive over modules"""


class NotRunError(Exception):
    """A method cannot run here; the text says why."""


@dataclass
class Archive:
    """Measured plans; equal plans once."""

    space: SearchSpace
    entries: dict[str, tuple[int, float, Plan]] = field(default_factory=dict)

    def add(self, plan: Plan, kl: float) -> None:
        """Remember a measured plan."""
        self.entries[plan.digest] = (self.space.weight_bytes(plan), kl, plan)

    def best_within(self, size_bytes: int) -> Plan:
        """Return the plan of the least KL within a size, or the uniform floor where none fits."""
        fitting = [entry for entry in self.entries.values() if entry[0] <= size_bytes]
        return min(fitting, key=itemgetter(1, 0))[2] if fitting else floor_plan(self.space, size_bytes)


def floor_plan(space: SearchSpace, size_bytes: int) -> Plan:
    """Return the largest uniform plan within a size, or the smallest there is."""
    plans = [plan for _, plan in space.uniform_plans()]
    fitting = [plan for plan in plans if space.weight_bytes(plan) <= size_bytes]
    return fitting[-1] if fitting else plans[0]


def ceiling_plan(space: SearchSpace, size_bytes: int) -> Plan:
    """Return the smallest uniform plan of at least a size, or the largest there is."""
    plans = [plan for _, plan in space.uniform_plans()]
    enough = [plan for plan in plans if space.weight_bytes(plan) >= size_bytes]
    return enough[0] if enough else plans[-1]


def neighbour(space: SearchSpace, name: str, level: Level, step: int) -> Level | None:
    """Return the level some steps by bytes from another one, or None where there is none."""
    levels = space.levels[name]
    index = levels.index(level) + step
    return levels[index] if 0 <= index < len(levels) else None


def lower_to_fit(space: SearchSpace, plan: Plan, size_bytes: int, rng: np.random.Generator) -> Plan:
    """Return the plan with random modules lowered, one level at a time, until it fits a size."""
    sizes, levels, used = space.sizes, dict(plan.levels), space.weight_bytes(plan)
    while used > size_bytes:
        lowerable = {n: lower for n, v in levels.items() if (lower := neighbour(space, n, v, -1)) is not None}
        if not lowerable:
            break
        name, lower = list(lowerable.items())[rng.integers(len(lowerable))]
        used -= sizes[name][levels[name]] - sizes[name][lower]
        levels[name] = lower
    return Plan.of(levels)


def fill(space: SearchSpace, plan: Plan, size_bytes: int, order: Sequence[str]) -> Plan:
    """Return the plan with modules raised by one level, in order, as long as they fit."""
    sizes, levels, used = space.sizes, dict(plan.levels), space.weight_bytes(plan)
    for name in order:
        higher = neighbour(space, name, levels[name], 1)
        if higher is not None and used + (extra := sizes[name][higher] - sizes[name][levels[name]]) <= size_bytes:
            levels[name], used = higher, used + extra
    return Plan.of(levels)


def solve_knapsack(space: SearchSpace, losses: Losses, budgets: Budgets) -> Plans:
    """Return the plan of the least additive loss for each budget."""
    sizes = space.sizes
    knapsack = Knapsack({n: [Option(v, sizes[n][v], max(k, 0.0)) for v, k in o.items()] for n, o in losses.items()})
    plans = {}
    for bits, size_bytes in budgets.items():
        levels = knapsack.solve(size_bytes - space.inventory.others_bytes)
        plans[bits] = floor_plan(space, size_bytes) if levels is None else Plan.of(levels)
    return plans
