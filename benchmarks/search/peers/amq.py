"""AMQ (arXiv 2509.12019), written anew: pruned space, surrogate, NSGA-II on the surrogate, true measurement, refit.

1. Leave-one-out at the lowest level from the uniform 4-bit plan; modules above twice the median are outliers and kept
   off the levels below 4 bits (AMQ pins them to its highest level, 4 bits; here they may still rise).
2. Uniform anchors and random designs; the leave-one-out plans join the archive.
3. Cubic RBF with linear tail on the integer genome, of log KL (raw KL and its root did equally well on a synthetic
   additive landscape). As a favour the designs are spread over the sizes, and nothing above the budgets is measured.
4. Each round: NSGA-II (population 200, 20 generations, crossover 0.9, mutation 0.1) on the surrogate from the archive's
   front, then 16 candidates spread evenly over the bytes are measured, 8,192 tokens each.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.mutation import Mutation
from pymoo.core.problem import Problem
from pymoo.operators.crossover.binx import BinomialCrossover
from pymoo.optimize import minimize
from scipy.interpolate import RBFInterpolator

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena
from benchmarks.search.peers.common import Archive, Budgets, Plans
from space.level import Level
from space.menu import SearchSpace
from space.plan import Plan
from space.results.front import non_dominated

NUM_SEQUENCES = 32
NUM_DESIGNS = 100
PER_ROUND = 16
TOKEN_FORWARDS = 3.3e6
OUTLIER = 2.0
POPULATION, GENERATIONS, CROSSOVER, MUTATION = 200, 20, 0.9, 0.1
_BASE_BITS = 4
_SMALL = 1e-8


@dataclass(frozen=True)
class Genome:
    """Translates plans of a pruned space to integer vectors (M,) and back; the byte counts come along."""

    space: SearchSpace

    @property
    def names(self) -> list[str]:
        """Return the modules with a choice."""
        return [name for name, levels in self.space.levels.items() if len(levels) > 1]

    def encode(self, plan: Plan) -> np.ndarray:
        """Return the level indices of a plan."""
        return np.array([self.space.levels[name].index(plan[name]) for name in self.names])

    def decode(self, vector: np.ndarray) -> Plan:
        """Return the plan of level indices."""
        chosen = dict(zip(self.names, vector, strict=True))
        return Plan.of({n: levels[int(chosen.get(n, 0))] for n, levels in self.space.levels.items()})

    def largest(self) -> np.ndarray:
        """Return each module's last index."""
        return np.array([len(self.space.levels[name]) - 1 for name in self.names])

    def sizes(self, vectors: np.ndarray) -> np.ndarray:
        """Return the (P,) module bytes of (P, M) vectors."""
        rows = [[self.space.sizes[name][level] for level in self.space.levels[name]] for name in self.names]
        columns = [np.array(row)[vectors[:, i]] for i, row in enumerate(rows)]
        return np.asarray(np.sum(columns, axis=0))

    def holds(self, plan: Plan) -> bool:
        """Tell whether a plan lies in the pruned space."""
        return all(level in self.space.levels[name] for name, level in plan.levels)


class _Predicted(Problem):  # type: ignore[misc]  # pymoo has no types
    """Objectives of the surrogate: predicted log KL and bytes."""

    def __init__(self, genome: Genome, predictor: RBFInterpolator) -> None:
        largest = genome.largest()
        super().__init__(n_var=len(largest), n_obj=2, xl=0, xu=largest, vtype=int)
        self._genome, self._predictor = genome, predictor

    def _evaluate(self, x: np.ndarray, out: dict[str, Any], *_: Any, **__: Any) -> None:
        out["F"] = np.column_stack([self._predictor(x / self.xu), self._genome.sizes(x.astype(int))])


class _AnyLevel(Mutation):  # type: ignore[misc]  # pymoo has no types
    """Gives each gene, with some probability, any of its levels."""

    def _do(self, problem: Problem, x: np.ndarray, *_: Any, random_state: Any = None, **__: Any) -> np.ndarray:
        drawn = random_state.integers(0, problem.xu.astype(int) + 1, x.shape)
        return np.where(random_state.random(x.shape) < MUTATION, drawn, x)


def prune(arena: Arena, archive: Archive) -> SearchSpace:
    """Return the space without the low levels of outliers; the leave-one-out plans are archived."""
    space = arena.space
    base = space.uniform_plan(Level(_BASE_BITS, 64))
    drops = {}
    for name, levels in space.levels.items():
        plan = base.replace({name: levels[0]})
        drops[name] = arena.measure(plan, NUM_SEQUENCES)
        archive.add(plan, drops[name])
    limit = OUTLIER * float(np.median(list(drops.values())))
    kept = {
        n: [v for v in levels if drops[n] <= limit or (v.bits or 16) >= _BASE_BITS]
        for n, levels in space.levels.items()
    }
    return space.restricted(kept)


def designs(genome: Genome, rng: np.random.Generator) -> list[Plan]:
    """Return random plans; each has its own mean level, so that they spread over the sizes."""
    largest = genome.largest()
    shares = np.linspace(0, 1, NUM_DESIGNS)
    return [genome.decode(rng.binomial(largest, share)) for share in shares]


def candidates(genome: Genome, archive: Archive, limit_bytes: int, seed: int) -> list[Plan]:
    """Return new plans from the surrogate's front, spread over the bytes up to the largest budget."""
    entries = [entry for entry in archive.entries.values() if genome.holds(entry[2])]
    vectors = np.array([genome.encode(plan) for _, _, plan in entries])
    kl = np.log([max(kl, _SMALL) for _, kl, _ in entries])
    predictor = RBFInterpolator(vectors / genome.largest(), kl, kernel="cubic", degree=1)
    front = non_dominated([(size, kl) for size, kl, _ in entries])
    method = NSGA2(
        pop_size=POPULATION,
        sampling=vectors[front],
        crossover=BinomialCrossover(prob=CROSSOVER, n_offsprings=1),
        mutation=_AnyLevel(prob=1.0),
        eliminate_duplicates=True,
    )
    result = minimize(_Predicted(genome, predictor), method, ("n_gen", GENERATIONS), seed=seed, verbose=False)
    found = {plan.digest: plan for plan in map(genome.decode, result.pop.get("X"))}
    fresh = [p for d, p in found.items() if d not in archive.entries and genome.space.weight_bytes(p) <= limit_bytes]
    return spread(fresh, [genome.space.weight_bytes(p) for p in fresh], [entries[i][0] for i in front], PER_ROUND)


def spread(plans: list[Plan], sizes: list[int], known: list[int], count: int) -> list[Plan]:
    """Return `count` plans, each the farthest in bytes from the known sizes and from those chosen before it."""
    chosen: list[Plan] = []
    gaps = np.array([min((abs(size - other) for other in known), default=size) for size in sizes])
    while len(chosen) < min(count, len(plans)):
        index = int(np.argmax(gaps))
        chosen.append(plans[index])
        gaps = np.minimum(gaps, np.abs(np.array(sizes) - sizes[index]))
        gaps[index] = -1
    return chosen


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:
    """Return the best measured plan within each budget."""
    rng, archive = np.random.default_rng(seed), Archive(arena.space)
    genome = Genome(prune(arena, archive))
    anchors = [plan for _, plan in genome.space.uniform_plans()]
    waiting, rounds = anchors + designs(genome, rng), 0
    while True:
        for plan in waiting:
            if arena.token_forwards + NUM_SEQUENCES * SEQUENCE_LENGTH > TOKEN_FORWARDS:
                return {bits: archive.best_within(size) for bits, size in budgets.items()}
            if plan.digest not in archive.entries:
                archive.add(plan, arena.measure(plan, NUM_SEQUENCES))
        rounds += 1
        limit_bytes = int(1.02 * max(budgets.values()))
        waiting = candidates(genome, archive, limit_bytes, 1000 * seed + rounds) or designs(genome, rng)
