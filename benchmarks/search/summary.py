"""What a league found, as one compact document: everything that its report needs.

Plans are strings of one character per module: the index of its level in the list of levels.
"""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search.arena import Arena
from benchmarks.search.earlier import Earlier, encode
from benchmarks.search.methods import METHODS
from benchmarks.search.ranking import OURS
from benchmarks.search.units import SeedRun, State, Unit
from space.plan import Plan
from space.results.front import front_hypervolume, paired_interval

MAX_TRACE = 32
UNIFORM = "uniform"
Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """One plan of one run on test text: (N,) KL per sequence."""

    seed: int
    plan: Plan
    sequence_kl: np.ndarray


def summarize(units: Sequence[Unit], state: State, arena: Arena, earlier: Earlier) -> Row:
    """Return the document of all finished units and of the earlier document's runs that they do not replace."""
    sizes = [arena.space.weight_bytes(plan) for _, plan in arena.space.uniform_plans()]
    budgets = arena.budgets
    levels = sorted({str(level) for choices in arena.space.levels.values() for level in choices})
    reference = state.judged(next(plan for _, plan in arena.space.uniform_plans()))
    box = {
        "smallest_bytes": sizes[0],
        "reference_bytes": next(size for size in sizes if size > max(budgets.values())),
        "reference_kl": float(np.mean(reference)) if reference else None,
        "budget_bytes": list(budgets.values()),
    }
    names = [name for name in METHODS if any(unit.method == name for unit in units)]
    runs = {name: _runs([unit for unit in units if unit.method == name], state, earlier, box) for name in names}
    judged = {name: found for name in names if (found := _judged(runs[name], state))}
    return {
        "league": "allocation",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "budgets": {str(bits): size for bits, size in budgets.items()},
        "modules": list(arena.space.levels),
        "levels": levels,
        "box": box,
        "methods": {
            name: _method(name, runs[name], judged.get(name, {}), levels)
            if runs[name]
            else _not_run(name, units, state)
            for name in names
        },
        "intervals": _intervals(judged),
    }


def _runs(units: Sequence[Unit], state: State, earlier: Earlier, box: Row) -> list[SeedRun]:
    """Return a method's runs by seed: the state's where all units are finished, else the earlier document's."""
    found = []
    for seed in sorted({unit.seed for unit in units}):
        own = [unit for unit in units if unit.seed == seed]
        known = earlier.run(own[0].method, seed)
        done = [row for unit in own if (row := state.read(unit)) is not None and "plans" in row]
        if len(done) < len(own) and known is not None:
            found.append(known)
        elif done:
            plans = {bits: Plan.from_json(levels) for row in done for bits, levels in row["plans"].items()}
            spent, seconds = (sum(row[key] for row in done) for key in ("token_forwards", "seconds"))
            found.append(SeedRun(seed, plans, round(spent), round(seconds, 1), anytime(done, box)))
    return found


def _judged(runs: Sequence[SeedRun], state: State) -> dict[str, list[Judged]]:
    """Return bits -> judged plans, one for each seed that has one."""
    found: dict[str, list[Judged]] = {}
    for run in runs:
        for bits, plan in run.plans.items():
            if (sequence_kl := state.judged(plan)) is not None:
                found.setdefault(bits, []).append(Judged(run.seed, plan, np.array(sequence_kl)))
    return found


def _not_run(name: str, units: Sequence[Unit], state: State) -> Row:
    """Return why a method has no run."""
    rows = [row for unit in units if unit.method == name and (row := state.read(unit)) is not None]
    return {"not_run": next((row["not_run"] for row in rows if "not_run" in row), "not run yet")}


def _method(name: str, runs: Sequence[SeedRun], judged: Mapping[str, list[Judged]], levels: list[str]) -> Row:
    """Return all that is known of one method."""
    return {
        "per_budget": METHODS[name].per_budget,
        "is_peer": METHODS[name].is_peer,
        "seeds": [run.seed for run in runs],
        "token_forwards": [run.token_forwards for run in runs],
        "seconds": [run.seconds for run in runs],
        "kl": {b: {str(j.seed): float(f"{j.sequence_kl.mean():.5g}") for j in js} for b, js in sorted(judged.items())},
        "plans": {b: {str(j.seed): encode(j.plan, levels) for j in js} for b, js in sorted(judged.items())},
        "anytime": {str(run.seed): run.anytime for run in runs},
    }


def anytime(rows: Sequence[Row], box: Row) -> list[tuple[int, float]]:
    """Return (token-forwards, hypervolume) of the search's own measurements, where it grew; at most MAX_TRACE pairs.

    At each moment every budget has the best plan known to fit it. Runs for single budgets are taken side by side: at a
    total spending of x each of them has spent its share of x.
    """
    if box["reference_kl"] is None:
        return []
    total = sum(r["token_forwards"] for r in rows)
    merged = sorted((t / r["token_forwards"] * total, s, k) for r in rows for t, s, k in r["trace"])
    best: dict[int, float] = {}
    found: list[tuple[int, float]] = []
    for spent, size, kl in merged:
        better = {b: kl for b in box["budget_bytes"] if size <= b and kl < best.get(b, float("inf"))}
        if better:
            best |= better
            reference = (box["reference_bytes"], box["reference_kl"])
            share = front_hypervolume(list(best.items()), reference, box["smallest_bytes"])
            found.append((round(spent), round(share, 5)))
    if len(found) > MAX_TRACE:
        picks = np.unique(np.geomspace(1, len(found), MAX_TRACE).round().astype(int)) - 1
        found = [found[i] for i in picks]
    return found


def _intervals(judged: Mapping[str, Mapping[str, list[Judged]]]) -> Row:
    """Return bits -> the best peer and each method's 95 % intervals, paired over test sequences, seeds averaged.

    Each interval is of the mean of (method's KL - other's KL): wholly above zero is measurably worse.
    """
    document: Row = {}
    for bits in sorted({bits for by_bits in judged.values() for bits in by_bits}):
        means = {n: np.mean([j.sequence_kl for j in by[bits]], axis=0) for n, by in judged.items() if bits in by}
        peers = [name for name in means if METHODS[name].is_peer]
        if not peers:
            continue
        best = min(peers, key=lambda name: float(means[name].mean()))
        others = {"best_peer": best} | {name: name for name in (OURS, UNIFORM) if name in means}
        rows = {
            name: {k: _interval(values, means[other]) for k, other in others.items() if other != name}
            for name, values in means.items()
        }
        document[bits] = {"best_peer": best, "against": rows}
    return document


def _interval(ours: np.ndarray, theirs: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in paired_interval(ours.tolist(), theirs.tolist())]
