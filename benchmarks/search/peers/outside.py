"""Plans of tools from PyPI, made in their own environments by `benchmarks/search/outside`, replayed here.

The tools decide the block linears under an average bit-width; the embedding and the bytes are left to the caller. So
for each budget every level of the embedding is tried with the largest-target plan that then fits the bytes; the pair
whose embedding is nearest to the budget's bits is taken (of two equally near ones the higher).
"""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.search.arena import Arena
from benchmarks.search.peers.common import Budgets, NotRunError, Plans, Run, floor_plan
from space.level import Level
from space.menu import SearchSpace, nearest_level
from space.plan import Plan

GROUP_SIZE = 64


def complete(space: SearchSpace, decided: Mapping[str, int], other: Level) -> Plan:
    """Return the plan of a tool's bits, with one level for the modules it does not decide."""
    return Plan.of(
        {n: nearest_level(v, Level(decided[n], GROUP_SIZE) if n in decided else other) for n, v in space.levels.items()}
    )


def choose(space: SearchSpace, rows: Sequence[Mapping[str, Any]], bits: float, size_bytes: int) -> Plan:
    """Return the plan of a budget."""
    rows = sorted(rows, key=lambda row: float(row["target_bits"]))
    found: list[tuple[float, int, Plan]] = []
    for level in space.uniform_levels:
        plans = [complete(space, row["levels"], level) for row in rows]
        fitting = [plan for plan in plans if space.weight_bytes(plan) <= size_bytes]
        if fitting:
            found.append((abs((level.bits or 16) - bits), -(level.bits or 16), fitting[-1]))
    return min(found, key=lambda f: f[:2])[2] if found else floor_plan(space, size_bytes)


def replay(arena: Arena, budgets: Budgets, seed: int, *, tool: str, folder: Path) -> Plans:
    """Return a tool's plans and pay what it says it spent.

    Raises:
        NotRunError: the tool left no plans.

    """
    path = folder / f"{tool}-s{seed}.json"
    if not path.exists():
        raise NotRunError(f"no plans of {tool} for seed {seed} in {folder}; see benchmarks/search/outside")
    document = json.loads(path.read_text(encoding="utf-8"))
    arena.pay(float(document["token_forwards"]))
    return {bits: choose(arena.space, document["plans"], bits, size) for bits, size in budgets.items()}


def tool(name: str, folder: Path) -> Run:
    """Return the method that replays a tool's plans from a folder."""
    return partial(replay, tool=name, folder=folder)
