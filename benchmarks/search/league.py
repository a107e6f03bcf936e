"""The allocation league: all methods choose plans over one level store; held-out KL at equal packed bytes decides.

    python -m benchmarks.search.league [--only METHOD,...] [--seeds 0,1,2] [--processes 2] [--state DIR]
        [--outside DIR] [--folder DIR] [--summary] [--earlier FILE] [--out FILE]

Runs what the state folder does not hold yet, each unit in a process of its own, and writes
`benchmarks/results/search/allocation.json`. Killed, it goes on when called again. Runs that
`--earlier` has are not made again; only their plans are judged again.
"""

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.search.arena import Arena, default_folder, seconds_since
from benchmarks.search.earlier import Earlier
from benchmarks.search.methods import METHODS
from benchmarks.search.summary import summarize
from benchmarks.search.tables import write_document
from benchmarks.search.units import State, Unit, do_unit, judge, units_of
from space.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "search" / "allocation.json"


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(METHODS), help="methods, separated by commas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--processes", type=int, default=2, help="units at a time; each takes one core")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="levels and teacher answers")
    parser.add_argument("--state", type=Path, default=default_folder() / "league", help="results of units")
    parser.add_argument("--outside", type=Path, default=default_folder() / "outside", help="plans of outside tools")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--earlier", type=Path, help="document of a league whose runs stand")
    parser.add_argument("--summary", action="store_true", help="run nothing; write what there is")
    parser.add_argument("--unit", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def asked_units(options: argparse.Namespace) -> list[Unit]:
    """Return the units that the options ask for."""
    wanted = options.only.split(",")
    if unknown := sorted(set(wanted) - set(METHODS)):
        raise SystemExit(f"--only: no such method: {', '.join(unknown)}; there are {', '.join(METHODS)}")
    methods = {name: method for name, method in METHODS.items() if name in wanted}
    return units_of(methods, [int(seed) for seed in options.seeds.split(",")])


def say(text: str) -> None:
    """Print a line with the time, at once."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run_here(unit: Unit, options: argparse.Namespace) -> int:
    """Do one unit in this process."""
    started = time.monotonic()
    try:
        arena, state = Arena(options.folder, unit.seed), State(options.state)
        if plans := Earlier.read(options.earlier, arena).plans(unit):
            return judge_again(unit, list(plans.values()), state, arena)
        result = do_unit(unit, METHODS[unit.method].load(options.outside), state, arena)
    except Exception:  # noqa: BLE001 (the other units go on)
        traceback.print_exc()
        say(f"{unit.name}: failed")
        return 1
    if "not_run" in result:
        say(f"{unit.name}: not run: {result['not_run']}")
    else:
        spent = result["token_forwards"] / 1e6
        say(f"{unit.name}: {spent:.2f} M token-forwards, {result['seconds']} s; {seconds_since(started)} s in all")
    return 0


def judge_again(unit: Unit, plans: Sequence[Plan], state: State, arena: Arena) -> int:
    """Judge an earlier document's plans of a unit."""
    started = time.monotonic()
    for plan in plans:
        judge(plan, state, arena)
    say(f"{unit.name}: judged again; {seconds_since(started)} s")
    return 0


def run_apart(unit: Unit, options: argparse.Namespace) -> int:
    """Do one unit in a process of its own; it ends by itself even if this one is killed."""
    command = [sys.executable, "-m", "benchmarks.search.league", "--unit", unit.name, "--only", unit.method]
    command += ["--seeds", options.seeds, "--folder", str(options.folder), "--state", str(options.state)]
    command += ["--outside", str(options.outside)]
    command += ["--earlier", str(options.earlier)] if options.earlier else []
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(command, cwd=ROOT, check=False, env=environment).returncode


def main() -> int:
    """Run the missing units, then write the summary."""
    options = read_arguments()
    units = asked_units(options)
    if options.unit:
        return run_here(next(unit for unit in units if unit.name == options.unit), options)
    state, arena, failed = State(options.state), Arena(options.folder), 0
    earlier = Earlier.read(options.earlier, arena)
    if not options.summary:
        missing = [unit for unit in units if not (state.is_finished(unit) or state.are_judged(earlier.plans(unit)))]
        say(f"{len(units)} units, {len(missing)} to do")
        with ThreadPoolExecutor(options.processes) as pool:
            failed = sum(pool.map(lambda unit: run_apart(unit, options), missing))
    if ratios := {name: ratio for unit in units for name, ratio in earlier.ratios(unit, state).items()}:
        worst = max(ratios, key=lambda name: abs(ratios[name] - 1))
        say(f"{len(ratios)} earlier plans judged again; {worst} differs most: {ratios[worst]:.6f} of the KL it had")
    write_document(options.out, summarize(units, state, arena, earlier), "methods")
    say(f"wrote {options.out}" + (f"; {failed} units failed" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
