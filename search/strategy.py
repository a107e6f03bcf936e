"""What to try next, as a pure function of the space, the observations and a seed.

Uniform plans -> one sensitivity probe per module at two bit-widths -> knapsack plans over the whole range of sizes ->
rounds of refinement: the additive model is corrected by what was measured, drawn from its belief, and solved again at
the sizes that matter. Each step is a batch; the next one is decided only when a batch is complete, so the number of
workers never changes the result.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from search.knapsack import Knapsack, Option, spread_sizes
from search.sensitivity import AdditiveModel, Errors, Probe, fit_correction, fit_probes
from space.level import Level
from space.menu import SearchSpace, nearest_level
from space.plan import Plan

UNIFORM, SENSITIVITY, KNAPSACK, REFINE = "uniform", "sensitivity", "knapsack", "refine"
PROBE_BITS = (2, 4)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to measure: `base` is a plan that shares its first blocks, `num_sequences` None is the whole text."""

    plan: Plan
    origin: str
    num_sequences: int | None = None
    base: Plan | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured proposal."""

    plan: Plan
    origin: str
    kl_divergence: float


@dataclass(frozen=True)
class FrontStrategy:
    """Proposes batches of plans.

    Attributes:
        space: the levels that may be chosen.
        errors: calibrated output error of each of them.
        budget_bytes: weight bytes that matter most.
        probe_sequences: sequences that a probe is measured on.
        num_sizes: knapsack plans between the smallest and the largest size.
        round_size: plans of one refinement round.
        max_trials: measured plans in all; fewer of them leave less for probes.
        seed: of the draws.

    """

    space: SearchSpace
    errors: Errors
    budget_bytes: int
    probe_sequences: int = 12
    num_sizes: int = 10
    round_size: int = 8
    max_trials: int = 200
    seed: int = 0

    def next_batch(self, observations: Sequence[Observation]) -> list[Proposal]:
        """Return the next batch; an empty one means that nothing is left to try."""
        seen = {o.plan.digest for o in observations if o.origin != SENSITIVITY}
        origins = {o.origin for o in observations}
        if UNIFORM not in origins:
            return _distinct([Proposal(plan, UNIFORM) for _, plan in self.space.uniform_plans()], set())
        if SENSITIVITY not in origins and (probes := self._probes()):
            return probes
        model = fit_probes(self.errors, self._measured_probes(observations))
        if KNAPSACK not in origins:
            plans = self._solve(model, self.sizes)
            return _distinct([Proposal(plan, KNAPSACK) for plan in plans], seen)
        return self._refine(model, observations, seen)

    @cached_property
    def base(self) -> Plan:
        """Return the nearly lossless plan that probes start from: the widest uniform one."""
        return self.space.uniform_plan(self.space.uniform_levels[-1])

    @cached_property
    def sizes(self) -> list[int]:
        """Return the sizes that plans are solved for: the uniform ones, the budget, and others between."""
        low, high = self.space.smallest_bytes, self.space.largest_bytes
        uniform = [self.space.weight_bytes(plan) for _, plan in self.space.uniform_plans()]
        low = max(low, int(uniform[0] * 0.9))
        high = min(high, uniform[-1])
        between = spread_sizes(low, high, self.num_sizes) if low < high else [high]
        wanted = {*uniform, *between, min(self.budget_bytes, self.space.largest_bytes)}
        return sorted(size for size in wanted if size >= self.space.smallest_bytes)

    def _probes(self) -> list[Proposal]:
        """Return the probes that the trials allow: each module at two bit-widths, or at one, or none."""
        allowed = self.max_trials - len(self.space.uniform_levels) - self.num_sizes
        for probe_bits in (PROBE_BITS, PROBE_BITS[:1]):
            probes = [probe for name in self.space.levels for probe in self._module_probes(name, probe_bits)]
            if len(probes) <= allowed:
                return probes
        return []

    def _module_probes(self, name: str, probe_bits: Sequence[int]) -> list[Proposal]:
        levels = {nearest_level(self.space.levels[name], Level(bits, 64)) for bits in probe_bits}
        return [
            Proposal(self.base.replace({name: level}), SENSITIVITY, self.probe_sequences, self.base)
            for level in sorted(levels, key=str)
            if level != self.base[name]
        ]

    def _measured_probes(self, observations: Sequence[Observation]) -> list[Probe]:
        probes = []
        for o in observations:
            if o.origin == SENSITIVITY:
                name, level = next((n, v) for n, v in o.plan.levels if v != self.base[n])
                probes.append(Probe(name, level, o.kl_divergence))
        return probes

    def _solve(self, model: AdditiveModel, sizes: Sequence[int]) -> list[Plan]:
        others = self.space.inventory.others_bytes
        knapsack = Knapsack(self._options(model))
        solved = [knapsack.solve(size - others) for size in sizes]
        return [Plan.of(levels) for levels in solved if levels is not None]

    def _options(self, model: AdditiveModel) -> Mapping[str, list[Option]]:
        return {
            name: [Option(v, self.space.sizes[name][v], model.losses[name][v]) for v in levels]
            for name, levels in self.space.levels.items()
        }

    def _refine(self, model: AdditiveModel, observations: Sequence[Observation], seen: set[str]) -> list[Proposal]:
        """Solve at every size with the corrected model, then with draws from its belief, until a round is full."""
        measured = [(o.plan, o.kl_divergence) for o in observations if o.origin != SENSITIVITY]
        correction = fit_correction(model, measured)
        rng = np.random.default_rng([self.seed % 2**64, len(measured)])
        focus = [min(self.budget_bytes, self.space.largest_bytes), *self._uniform_sizes_by_distance()]
        found = _distinct([Proposal(p, REFINE) for p in self._solve(model.scaled(correction.factors()), focus)], seen)
        found = found[: self.round_size]
        for attempt in range(4 * self.round_size):
            if len(found) >= self.round_size:
                break
            size = focus[0] if attempt % 2 == 0 else focus[1 + attempt // 2 % max(1, len(focus) - 1)]
            drawn = model.scaled(correction.factors(rng))
            known = seen | {p.plan.digest for p in found}
            found += _distinct([Proposal(plan, REFINE) for plan in self._solve(drawn, [size])], known)
        return found

    def _uniform_sizes_by_distance(self) -> list[int]:
        sizes = [self.space.weight_bytes(plan) for _, plan in self.space.uniform_plans()]
        near = [s for s in sizes if s != self.budget_bytes] or sizes
        return sorted(near, key=lambda s: abs(np.log(s / self.budget_bytes)))


def _distinct(proposals: Sequence[Proposal], seen: set[str]) -> list[Proposal]:
    kept: dict[str, Proposal] = {}
    for proposal in proposals:
        if proposal.plan.digest not in seen:
            kept.setdefault(proposal.plan.digest, proposal)
    return list(kept.values())
