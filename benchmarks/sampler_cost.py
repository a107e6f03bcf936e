"""What the sampler costs on a large model: CPU time per proposal and memory, with thousands of known observations.

    python -m benchmarks.sampler_cost [--blocks 32] [--observations 5000] [--rounds 2] [--profile FILE] [--out FILE]

The model has seven modules per block with twelve levels each. Known are the plans made by hand, two probes per module,
three operating points with the sketches of all their neighbours, and plans measured on the whole text for the rest;
their losses are a quadratic form of random directions. Counted are the batches that follow (plans around the last
operating point, then rounds of screening and racing). Memory is the resident set's growth, in two steps: the study
that a study replays from as many records, and what all batches take on top of it.
"""

import argparse
import cProfile
import gc
import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from search.decide.additive_model import Errors
from search.decide.observation import KNAPSACK, REFINE, SENSITIVITY, Observation, Proposal
from search.decide.operating_points import Points
from search.decide.steps import FrontStrategy
from search.study.job_study import JobStudy
from space.inventory import CacheLayer, Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.measurement import Measurement
from space.menu import Menu, SearchSpace, build_space
from space.plan import Plan
from storage.records import Trial, TrialState
from storage.sampler_state import SamplerState

SHAPES = {"q": (4096, 4096), "k": (1024, 4096), "v": (1024, 4096), "o": (4096, 4096)}
SHAPES |= {"gate": (14336, 4096), "up": (14336, 4096), "down": (4096, 14336)}
MENU = Menu(bits=(2, 3, 4, 8), group_sizes=(32, 64, 128), sparsities=(0.0,), ranks=(0,), kinds=("integer",))
SEQUENCES = 32
PER_SEQUENCE = 256  # entries of a sketch
ENTRIES = SEQUENCES * PER_SEQUENCE
OPERATING_BITS = (2.6, 3.2, 4.0)
BUDGET_BITS = 3.2


def make_space(num_blocks: int) -> SearchSpace:
    """Return the space of a model with seven modules per block."""
    modules = [
        ModuleInfo(name, "linear", TensorInfo(f"{name}.weight", shape, "BF16"), block)
        for block in range(num_blocks)
        for kind, shape in SHAPES.items()
        for name in [f"layers.{block}.{kind}_proj"]
    ]
    return build_space(Inventory(tuple(modules), (), (CacheLayer(1024),) * num_blocks, num_blocks), MENU, "packed", ())


def output_error(level: Level) -> float:
    """Return the relative output error of a level."""
    return float(4.0 ** -(level.bits or 16) * (1 + (level.group_size or 256) / 256))


def errors_of(space: SearchSpace) -> Errors:
    """Return the relative output error of every level of a space."""
    return {name: {v: output_error(v) for v in levels} for name, levels in space.levels.items()}


def budget_of(space: SearchSpace, bits: float = BUDGET_BITS) -> int:
    """Return the bytes of all weights at so many bits each."""
    return int(sum(m.weight.num_elements for m in space.inventory.modules) * bits / 8)


class Losses:
    """Losses of plans: half the mean square of a sum of random directions, with something common to all of them."""

    def __init__(self, space: SearchSpace, seed: int = 0) -> None:
        """Draw the directions of all modules."""
        rng = np.random.default_rng(seed)
        common = rng.standard_normal(ENTRIES)
        self._row = {name: i for i, name in enumerate(space.levels)}
        count = len(self._row)
        scale = np.sqrt(2 / count) * rng.lognormal(0, 0.5, (count, 1))
        self._directions = (scale * (0.3 * common + rng.standard_normal((count, ENTRIES)))).astype(np.float32)

    def sketch(self, plan: Plan) -> np.ndarray:
        """Return the (ENTRIES,) float32 sketch of a plan on the whole text."""
        roots = np.zeros(len(self._row), dtype=np.float32)
        for name, level in plan.levels:
            roots[self._row[name]] = output_error(level) ** 0.5
        found: np.ndarray = roots @ self._directions
        return found

    def observe(self, proposal: Proposal) -> Observation:
        """Return what a job would observe of a proposal."""
        whole = self.sketch(proposal.plan)
        kl = float(whole @ whole) / ENTRIES / 2
        factors = [1 + 0.1 * ((i % 5) - 2) for i in range(SEQUENCES)][: proposal.num_sequences]
        sketch = None if proposal.base is None else whole[: len(factors) * PER_SEQUENCE].astype(np.float16)
        return Observation(proposal.plan, proposal.origin, tuple(kl * f for f in factors), proposal.base, sketch)


@dataclass(frozen=True)
class Case:
    """A space, a strategy on it, and what is known."""

    space: SearchSpace
    strategy: FrontStrategy
    losses: Losses
    observations: list[Observation]


def make_case(num_blocks: int, num_observations: int, seed: int = 0) -> Case:
    """Return a search that has probed its last operating point just now."""
    space = make_space(num_blocks)
    errors, budget = errors_of(space), budget_of(space)
    strategy = FrontStrategy(space, errors, budget, num_sequences=SEQUENCES, seed=seed)
    losses = Losses(space, seed)
    observations: list[Observation] = []
    for _ in range(3):  # plans made by hand, probes, knapsack plans
        observations += [losses.observe(p) for p in strategy.next_batch(observations)]
    points = Points(space, observations, strategy.model(observations), strategy.base)
    bases = points.solve([budget_of(space, bits) for bits in OPERATING_BITS])
    around = [
        Proposal(plan, SENSITIVITY, strategy.deciding_sequences, base)
        for base in bases
        for plan in [base, *points.neighbours(base)]
    ]
    count = num_observations - len(observations) - len(around)
    observations += [losses.observe(p) for p in _variants(space, observations, count, seed)]
    observations += [losses.observe(p) for p in around]
    return Case(space, strategy, losses, observations)


def _variants(space: SearchSpace, observations: Sequence[Observation], count: int, seed: int) -> list[Proposal]:
    """Return knapsack plans with a few modules changed."""
    rng, names = np.random.default_rng(seed), list(space.levels)
    starts = cycle([o.plan for o in observations if o.origin == KNAPSACK])
    found = []
    for _, start in zip(range(count), starts, strict=False):
        chosen = rng.choice(names, min(8, len(names)), replace=False)
        found.append(
            Proposal(start.replace({n: space.levels[n][rng.integers(len(space.levels[n]))] for n in chosen}), REFINE)
        )
    return found


def replay(case: Case) -> JobStudy:
    """Return a study that was rebuilt from a record of every observation."""
    trials = [_record(case, number, o) for number, o in enumerate(case.observations)]
    kept = {(o.plan.digest, o.base.digest): o.sketch for o in case.observations if o.base is not None}
    study = JobStudy(
        "front",
        case.strategy,
        find_sketch=lambda p: kept[p.plan.digest, p.base.digest] if p.base else None,
    )
    study.replay(trials)
    return study


def _record(case: Case, number: int, seen: Observation) -> Trial:
    count = len(seen.sequence_kl) if len(seen.sequence_kl) < SEQUENCES else None
    state = SamplerState(count, seen.base.to_json() if seen.base else None)
    kl = list(seen.sequence_kl)
    measurement = Measurement.of_sequences(kl, kl, 31, 1.0, 0.0)
    size = case.space.weight_bytes(seen.plan)
    return Trial("one", number, seen.plan, seen.origin, TrialState.COMPLETE, size, measurement, sampler_state=state)


def follow(case: Case, study: JobStudy, num_rounds: int) -> list[dict[str, Any]]:
    """Return origin, proposals and CPU seconds of the batches that follow."""
    rows = []
    for _ in range(1 + 2 * num_rounds):
        started = time.process_time()
        asked = study.ask(10**6)
        seconds = time.process_time() - started
        if not asked:
            break
        rows.append({"origin": asked[0].proposal.origin, "proposals": len(asked), "cpu_seconds": round(seconds, 3)})
        for a in asked:
            seen = case.losses.observe(a.proposal)
            kl = list(seen.sequence_kl)
            study.tell(a, Measurement.of_sequences(kl, kl, 31, 1.0, 0.0))
    return rows


def resident_mib() -> float:
    """Return the largest resident set so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--observations", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    case = make_case(arguments.blocks, arguments.observations)
    gc.collect()
    start = resident_mib()
    study = replay(case)
    replayed = resident_mib()
    profile = cProfile.Profile()
    if arguments.profile:
        profile.enable()
    rows = follow(case, study, arguments.rounds)
    profile.disable()
    proposals, seconds = sum(row["proposals"] for row in rows), sum(row["cpu_seconds"] for row in rows)
    result = {
        "modules": len(case.space.levels),
        "levels": max(map(len, case.space.levels.values())),
        "observations": len(case.observations),
        "proposals": proposals,
        "cpu_ms_per_proposal": round(1000 * seconds / proposals, 2),
        "study_mib": round(replayed - start, 1),
        "batches_mib": round(resident_mib() - replayed, 1),
        "load_average": round(os.getloadavg()[0], 1),
        "batches": rows,
    }
    print(json.dumps(result, indent=2))
    if arguments.profile:
        profile.dump_stats(arguments.profile)
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
