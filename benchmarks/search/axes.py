"""The axes league: tightfit's own search with five menus at equal stored bytes; held-out KL tells which axes pay.

    python -m benchmarks.search.axes [--only MENU,...] [--seeds 0] [--folder DIR] [--state DIR] [--summary]

For each menu one job at the 3-bit size with default trial limits and 32 search sequences, then a warm one for every
other budget; plans are judged on the arena's test text. Runs what the state folder does not hold yet, one menu after
the other, each in a process of its own, and writes `benchmarks/results/search/axes.json`. Killed, it goes on when
called again.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.search.arena import BUDGET_BITS, GROUP_SIZE, PLAIN_MENU, Arena, default_folder
from benchmarks.search.peers.tightfit import run
from benchmarks.search.tables import write_document
from benchmarks.search.units import State, Unit, do_unit
from space.level import Level
from space.menu import Menu
from space.plan import Plan
from space.results.front import paired_interval

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "search" / "axes.json"
NUM_SEARCH = 32
BITS_ONLY = "bits"
_GROUPS = replace(PLAIN_MENU, group_sizes=(32, 64, 128, None))
MENUS: Mapping[str, Menu] = {
    BITS_ONLY: PLAIN_MENU,
    "groups": _GROUPS,
    "groups+sparsity": replace(_GROUPS, sparsities=(0.0, 0.5)),
    "groups+rank": replace(_GROUPS, ranks=(0, 8)),
    "all": replace(_GROUPS, sparsities=(0.0, 0.5), ranks=(0, 8)),
    "all+trellis": replace(_GROUPS, sparsities=(0.0, 0.5), ranks=(0, 8), kinds=("integer", "rotated-trellis")),
}
USES = {
    "another group size": lambda level: level.group_size != GROUP_SIZE,
    "sparsity": lambda level: level.sparsity > 0,
    "rank": lambda level: level.rank > 0,
    "trellis": lambda level: level.coding == "trellis",
}
"""axis -> whether a level uses it"""
Row = dict[str, Any]


def asked_units(only: str, seeds: str) -> list[Unit]:
    """Return the units that the options ask for."""
    wanted = only.split(",")
    if unknown := sorted(set(wanted) - set(MENUS)):
        raise SystemExit(f"--only: no such menu: {', '.join(unknown)}; there are {', '.join(MENUS)}")
    return [Unit(name, int(seed), BUDGET_BITS, 0) for seed in seeds.split(",") for name in MENUS if name in wanted]


def summarize(units: Sequence[Unit], state: State, arena: Arena) -> Row:
    """Return the document of all finished units."""
    found = {unit: result for unit in units if (result := state.read(unit)) is not None and state.is_finished(unit)}
    menus = [name for name in MENUS if any(unit.method == name for unit in found)]
    return {
        "league": "axes",
        "machine": {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "budgets": {str(bits): size for bits, size in arena.budgets.items()},
        "menus": {name: _menu(name, found, state, arena) for name in menus},
        "against_bits": {name: _against_bits(name, found, state) for name in menus if name != BITS_ONLY},
    }


def _menu(name: str, found: Mapping[Unit, Row], state: State, arena: Arena) -> Row:
    own = {unit.seed: result for unit, result in found.items() if unit.method == name}
    kl = {seed: _judged(result, state) for seed, result in own.items()}
    return {
        "menu": asdict(MENUS[name]),
        "token_forwards": [round(result["token_forwards"]) for result in own.values()],
        "seconds": [result["seconds"] for result in own.values()],
        "kl": {str(b): {str(s): float(f"{kl[s][b].mean():.5g}") for s in own} for b in BUDGET_BITS},
        "uses": {str(b): _uses([_plan(result, b) for result in own.values()], arena) for b in BUDGET_BITS},
        "plans": {str(b): {str(s): _plan(result, b).to_json() for s, result in own.items()} for b in BUDGET_BITS},
    }


def _plan(result: Row, bits: float) -> Plan:
    return Plan.from_json(result["plans"][str(bits)])


def _judged(result: Row, state: State) -> dict[float, np.ndarray]:
    return {bits: np.array(state.judged(_plan(result, bits))) for bits in BUDGET_BITS}


def _uses(plans: Sequence[Plan], arena: Arena) -> dict[str, float]:
    """Return axis -> share of the weights whose level uses it, mean over plans."""
    counts = {m.name: m.weight.num_elements for m in arena.inventory.modules}

    def share(plan: Plan, axis: str) -> float:
        return sum(counts[name] for name, level in plan.levels if _is_used(level, axis)) / sum(counts.values())

    return {axis: round(float(np.mean([share(plan, axis) for plan in plans])), 3) for axis in USES}


def _is_used(level: Level, axis: str) -> bool:
    return not level.is_dense and USES[axis](level)


def _against_bits(name: str, found: Mapping[Unit, Row], state: State) -> dict[str, list[float]]:
    """Return bits -> 95 % interval of KL minus that of bits only, paired over test sequences, seeds averaged."""
    means = [
        [_judged(result, state) for unit, result in found.items() if unit.method == method]
        for method in (name, BITS_ONLY)
    ]
    if not all(means):
        return {}
    intervals = {}
    for bits in BUDGET_BITS:
        ours, theirs = (np.mean([judged[bits] for judged in seeds], axis=0).tolist() for seeds in means)
        intervals[str(bits)] = [float(f"{value:.4g}") for value in paired_interval(ours, theirs)]
    return intervals


def main() -> None:
    """Run the missing units, then write the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(MENUS), help="menus, separated by commas")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="levels and teacher answers")
    parser.add_argument("--state", type=Path, default=default_folder() / "axes", help="results of units")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--summary", action="store_true", help="run nothing; write what there is")
    options = parser.parse_args()
    units, state = asked_units(options.only, options.seeds), State(options.state)
    missing = [] if options.summary else [unit for unit in units if not state.is_finished(unit)]
    for unit in missing:
        if len(units) == 1:
            search = partial(run, num_search=NUM_SEARCH, max_trials=None)
            do_unit(unit, search, state, Arena(options.folder, unit.seed, MENUS[unit.method]))
        else:
            print(f"{time.strftime('%H:%M:%S')} {unit.name}", flush=True)
            run_apart(unit, options)
    if len(units) > 1 or options.summary:
        write_document(options.out, summarize(units, state, Arena(options.folder)), "menus")


def run_apart(unit: Unit, options: argparse.Namespace) -> None:
    """Do one unit in a process of its own, with one thread."""
    command = [sys.executable, "-m", "benchmarks.search.axes", "--only", unit.method, "--seeds", str(unit.seed)]
    command += ["--folder", str(options.folder), "--state", str(options.state)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    subprocess.run(command, cwd=ROOT, check=True, env=environment)


if __name__ == "__main__":
    main()
