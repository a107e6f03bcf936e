"""Units of a league: one run of one method with one seed, done in a process of its own, its result one small file.

State folder: `units/NAME.json` for runs, `judged/DIGEST.json` for plans on test text. Files are whole or absent, so a
killed league goes on where it was.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

from benchmarks.search.arena import Arena
from benchmarks.search.methods import Method
from benchmarks.search.peers.common import NotRunError, Run
from space.plan import Plan
from workers.whole_files import write_text

HEARTBEAT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: a method, a seed and the budgets it is asked for."""

    method: str
    seed: int
    budgets: tuple[float, ...]
    turn: int

    @property
    def name(self) -> str:
        """Return the name of the unit's file."""
        return f"{self.method}-s{self.seed}" + (f"-b{self.budgets[0]}" if len(self.budgets) == 1 else "")


@dataclass(frozen=True, slots=True)
class SeedRun:
    """What a method found and spent with one seed, all its budgets together.

    Attributes:
        seed: order of the pool.
        plans: bits -> plan.
        token_forwards: all that was measured.
        seconds: CPU time.
        anytime: (token-forwards, hypervolume) where it grew.

    """

    seed: int
    plans: Mapping[str, Plan]
    token_forwards: int
    seconds: float
    anytime: Sequence[Sequence[float]]


def units_of(methods: Mapping[str, Method], seeds: Sequence[int]) -> list[Unit]:
    """Return all units, in the order of running."""
    units = []
    for name, method in methods.items():
        parts = [(bits,) for bits in method.budgets] if method.per_budget else [method.budgets]
        units += [Unit(name, seed, part, method.turn) for seed in seeds[: method.seeds] for part in parts]
    order = {name: index for index, name in enumerate(methods)}
    return sorted(units, key=lambda u: (u.turn, u.seed, order[u.method]))


@dataclass(frozen=True, slots=True)
class State:
    """The folder of results."""

    folder: Path

    def read(self, unit: Unit) -> dict[str, Any] | None:
        """Return the result of a unit, or None where there is none yet."""
        return _read(self.folder / "units" / f"{unit.name}.json")

    def write(self, unit: Unit, result: Mapping[str, Any]) -> None:
        """Keep the result of a unit."""
        write_text(self.folder / "units" / f"{unit.name}.json", json.dumps(result))

    def judged(self, plan: Plan) -> list[float] | None:
        """Return a plan's KL per test sequence, or None where it is not judged yet."""
        found = _read(self.folder / "judged" / f"{plan.digest[:32]}.json")
        return None if found is None else found["sequence_kl"]

    def write_judged(self, plan: Plan, sequence_kl: Sequence[float]) -> None:
        """Keep a plan's KL per test sequence."""
        text = json.dumps({"plan": plan.to_json(), "sequence_kl": list(sequence_kl)})
        write_text(self.folder / "judged" / f"{plan.digest[:32]}.json", text)

    def is_finished(self, unit: Unit) -> bool:
        """Tell whether a unit was run and its plans judged; one that could not run is tried again."""
        result = self.read(unit)
        if result is None or "plans" not in result:
            return False
        return self.are_judged({bits: Plan.from_json(levels) for bits, levels in result["plans"].items()})

    def are_judged(self, plans: Mapping[str, Plan]) -> bool:
        """Tell whether a run's plans are there, bits -> plan, and all judged."""
        return bool(plans) and all(self.judged(plan) is not None for plan in plans.values())


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def do_unit(unit: Unit, run: Run, state: State, arena: Arena) -> dict[str, Any]:
    """Run a unit in the arena of its seed and judge its plans, as far as this is not done yet; return its result."""
    result = state.read(unit)
    if result is None or "plans" not in result:
        result = _run(unit, run, arena)
        state.write(unit, result)
    for levels in result.get("plans", {}).values():
        judge(Plan.from_json(levels), state, arena)
    return result


def judge(plan: Plan, state: State, arena: Arena) -> Sequence[float]:
    """Return a plan's KL per test sequence, measured if it is not known yet."""
    if (known := state.judged(plan)) is not None:
        return known
    measured = arena.judge(plan).sequence_kl
    state.write_judged(plan, measured)
    return measured


@contextmanager
def _heartbeat(unit: Unit, arena: Arena) -> Iterator[None]:
    """Print now and then how far a run is."""
    over = Event()

    def beat() -> None:
        while not over.wait(HEARTBEAT_SECONDS):
            last = f", KL {arena.trace[-1].kl_divergence:.5f}" if arena.trace else ""
            spent = f"{arena.token_forwards / 1e6:.2f} M token-forwards"
            print(f"{time.strftime('%H:%M:%S')} {unit.name}: {spent}{last}", flush=True)

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _run(unit: Unit, run: Run, arena: Arena) -> dict[str, Any]:
    budgets = {bits: arena.budgets[bits] for bits in unit.budgets}
    _ = arena.space
    arena.reset()
    started = time.process_time()  # one thread; others may keep the machine busy
    try:
        with _heartbeat(unit, arena):
            plans = run(arena, budgets, unit.seed)
    except NotRunError as error:
        return {"method": unit.method, "seed": unit.seed, "not_run": str(error)}
    seconds = round(time.process_time() - started, 1)
    for bits, plan in plans.items():
        size = arena.space.weight_bytes(plan)
        if size > budgets[bits]:
            raise ValueError(f"{unit.name}: the plan for {bits} bits has {size} bytes, more than {budgets[bits]}")
    return {
        "method": unit.method,
        "seed": unit.seed,
        "plans": {str(bits): plan.to_json() for bits, plan in plans.items()},
        "sizes": {str(bits): arena.space.weight_bytes(plan) for bits, plan in plans.items()},
        "token_forwards": arena.token_forwards,
        "seconds": seconds,
        "trace": [[t.token_forwards, t.size_bytes, t.kl_divergence] for t in arena.trace],
    }
