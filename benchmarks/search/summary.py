"""What a league found, as one compact document: everything that its report needs.

Plans are strings of one character per module: the index of its level in the list of levels.
"""

import json
import os
import platform
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.arena import Arena
from benchmarks.search.methods import METHODS
from benchmarks.search.units import State, Unit
from space.front import front_hypervolume, paired_interval
from space.plan import Plan

ALPHABET = string.digits + string.ascii_letters
MAX_TRACE = 32
OURS = "tightfit"
UNIFORM = "uniform"
Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """One plan of one run on test text: (N,) KL per sequence."""

    seed: int
    plan: Plan
    size_bytes: int
    sequence_kl: np.ndarray


def summarize(units: Sequence[Unit], state: State, arena: Arena) -> Row:
    """Return the document of all finished units."""
    sizes = [arena.space.weight_bytes(plan) for _, plan in arena.space.uniform_plans()]
    budgets = arena.budgets
    levels = sorted({str(level) for choices in arena.space.levels.values() for level in choices})
    results = {unit: found for unit in units if (found := state.read(unit)) is not None}
    judged = _judged(results, state)
    reference = state.judged(next(plan for _, plan in arena.space.uniform_plans()))
    box = {
        "smallest_bytes": sizes[0],
        "reference_bytes": next(size for size in sizes if size > max(budgets.values())),
        "reference_kl": float(np.mean(reference)) if reference else None,
        "budget_bytes": list(budgets.values()),
    }
    return {
        "league": "allocation",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "budgets": {str(bits): size for bits, size in budgets.items()},
        "modules": list(arena.space.levels),
        "levels": levels,
        "box": box,
        "methods": {name: _method(name, results, judged.get(name, {}), levels, box) for name in _names(units)},
        "intervals": _intervals(judged),
    }


def write_summary(path: Path, document: Row) -> None:
    """Write the document with one line per method."""
    path.parent.mkdir(parents=True, exist_ok=True)
    methods = ",\n".join(
        f"  {json.dumps(n)}: {json.dumps(m, separators=(',', ':'))}" for n, m in document["methods"].items()
    )
    head = json.dumps({k: v for k, v in document.items() if k != "methods"}, indent=1)
    path.write_text(f'{head[:-2]},\n "methods": {{\n{methods}\n }}\n}}\n', encoding="utf-8")


def _names(units: Sequence[Unit]) -> list[str]:
    return [name for name in METHODS if any(unit.method == name for unit in units)]


def _judged(results: Mapping[Unit, Row], state: State) -> dict[str, dict[str, list[Judged]]]:
    """Return method -> bits -> judged plans, one for each seed that is finished."""
    found: dict[str, dict[str, list[Judged]]] = {}
    for unit, result in results.items():
        for bits, levels in result.get("plans", {}).items():
            plan = Plan.from_json(levels)
            sequence_kl = state.judged(plan)
            if sequence_kl is not None:
                entry = Judged(unit.seed, plan, result["sizes"][bits], np.array(sequence_kl))
                found.setdefault(unit.method, {}).setdefault(bits, []).append(entry)
    return found


def _method(
    name: str, results: Mapping[Unit, Row], judged: Mapping[str, list[Judged]], levels: list[str], box: Row
) -> Row:
    """Return all that is known of one method."""
    own = {unit: result for unit, result in results.items() if unit.method == name}
    done = {unit: result for unit, result in own.items() if "plans" in result}
    if not done:
        return {"not_run": next((r["not_run"] for r in own.values() if "not_run" in r), "not run yet")}
    seeds = sorted({unit.seed for unit in done})
    per_seed = {seed: [r for unit, r in done.items() if unit.seed == seed] for seed in seeds}
    return {
        "per_budget": METHODS[name].per_budget,
        "is_peer": METHODS[name].is_peer,
        "seeds": seeds,
        "token_forwards": [round(sum(r["token_forwards"] for r in rows)) for rows in per_seed.values()],
        "seconds": [round(sum(r["seconds"] for r in rows), 1) for rows in per_seed.values()],
        "kl": {b: {str(j.seed): float(f"{j.sequence_kl.mean():.5g}") for j in js} for b, js in sorted(judged.items())},
        "plans": {b: {str(j.seed): encode(j.plan, levels) for j in js} for b, js in sorted(judged.items())},
        "anytime": {str(seed): anytime(rows, box) for seed, rows in per_seed.items()},
    }


def encode(plan: Plan, levels: Sequence[str]) -> str:
    """Return one character per module."""
    return "".join(ALPHABET[levels.index(str(level))] for _, level in plan.levels)


def decode(text: str, modules: Sequence[str], levels: Sequence[str]) -> Plan:
    """Return the plan of a string."""
    return Plan.from_json({name: levels[ALPHABET.index(c)] for name, c in zip(modules, text, strict=True)})


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
