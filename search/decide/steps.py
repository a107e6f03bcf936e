"""What to try next, as a pure function of the space, the observations and a seed.

Plans that people make by hand -> one sensitivity probe per module at two bit-widths -> knapsack plans over the whole
range of sizes -> where these lose measurably more than the additive model said, operating points: probes of all
neighbours on little text, of those that decide on more, then plans by level switches on their quadratic model ->
rounds of refinement that screen many such plans on little text and measure the best on all of it.

Each step is a batch; the next one is decided only when a batch is complete, so the number of workers never changes the
result.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import repeat
from math import log

from search.decide.additive_model import AdditiveModel, Errors, Probe, fit_probes, price_errors
from search.decide.handmade_plans import GIVEN, HEURISTIC, heuristic_plans
from search.decide.knapsack import spread_sizes
from search.decide.memo import Memo
from search.decide.observation import (
    EXCHANGE,
    KNAPSACK,
    RACE_STEP,
    REFINE,
    SCREEN,
    SENSITIVITY,
    UNIFORM,
    Observation,
    Proposal,
    distinct,
)
from search.decide.operating_points import WINDOW, Points, evidence_of
from search.decide.seen import Evidence
from space.level import Level
from space.menu import SearchSpace, nearest_level
from space.plan import Plan

PROBE_BITS = (2, 4)
MAX_GUARDS = 6  # plans made by hand that are measured beside the uniform ones
_WARM_PLANS = 16
_HARD_RESIDUAL = 0.2  # log of measured over predicted KL at an operating point: below 2.5 bits, most often
NO_LIMIT = 10**6
PLAN_TRIALS = 120  # uniform, knapsack and exchange plans, and two rounds of refinement


@dataclass(frozen=True)
class FrontStrategy:
    """Proposes batches of plans.

    Attributes:
        space: the levels that may be chosen.
        errors: calibrated output error of each of them.
        budget_bytes: weight bytes that matter most.
        num_sequences: sequences of the whole search text.
        num_sizes: knapsack plans between the smallest and the largest size.
        num_points: operating points, at most; earlier jobs' count too, but the budget always has one near.
        round_size: plans of one refinement round.
        warm: answer from what is known already: a few plans at the budget, no probes.
        prices: module name -> KL divergence that a relative output error of one adds, where no probe tells; a module
            without one takes that of its type, and where there are none all errors cost the same.
        seed: of the draws.

    """

    space: SearchSpace
    errors: Errors
    budget_bytes: int
    num_sequences: int = 32
    num_sizes: int = 10
    num_points: int = 3
    round_size: int = 8
    warm: bool = False
    prices: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0

    def next_batch(
        self, observations: Sequence[Observation], limit: int = NO_LIMIT, failed: Collection[Proposal] = ()
    ) -> list[Proposal]:
        """Return the next batch; an empty one means that nothing is left to try.

        Args:
            observations: everything measured.
            limit: trials that may still be asked; fewer of them leave less for probes.
            failed: what was asked and could not be measured. Only uniform plans, where none could be, are asked again.

        """
        points = Points(self.space, observations, self.model(observations), self.base, self._memory)
        if not self.warm and UNIFORM not in points.evidence.origins:
            return self._begin(points, limit)[:limit]
        batches = (_without(step(points, limit), failed) for step in self._steps)
        return next((batch[:limit] for batch in batches if batch), [])

    @property
    def _steps(self) -> Sequence[Callable[[Points, int], list[Proposal]]]:
        """Return what may be next, each only where the ones before it have nothing left to ask."""
        cold = self._probes, self._spread, self._settle, self._around, self._point, self._refine
        return self._given, *((self._answer,) if self.warm else cold)

    def model(self, observations: Sequence[Observation]) -> AdditiveModel:
        """Return the additive model, of probes of nearly lossless plans where there are any."""
        evidence = self._evidence(observations)
        known, wide = evidence.wide_alone, evidence.probes_of(self.base)
        if known is None or not wide:
            return self._memory.recall("additive", [self.prices], lambda: price_errors(self.errors, self.prices))
        probes = partial(map, Probe.of, wide, repeat(known))
        made_of = [self.prices, known, *wide]
        fit = partial(fit_probes, self.errors, prices=self.prices, items=self.space.items)
        return self._memory.recall("additive", made_of, lambda: fit(probes=list(probes())))

    def _evidence(self, observations: Sequence[Observation]) -> Evidence:
        return evidence_of(self.space, observations, self.base, self._memory)

    @cached_property
    def _memory(self) -> Memo:
        """Return what outlives a batch: only what the next one would work out again."""
        return Memo()

    @cached_property
    def base(self) -> Plan:
        """Return the plan that the first probes start from."""
        return nearly_lossless(self.space)

    @cached_property
    def budget(self) -> int:
        """Return the weight bytes that plans may use."""
        return min(self.budget_bytes, self.space.largest_bytes)

    @cached_property
    def sizes(self) -> list[int]:
        """Return the sizes that plans are solved for: the uniform ones, the budget, and others between."""
        uniform = [self.space.weight_bytes(plan) for _, plan in self.space.uniform_plans()]
        low = max(self.space.smallest_bytes, int(uniform[0] * 0.9))
        high = min(self.space.largest_bytes, uniform[-1])
        between = spread_sizes(low, high, self.num_sizes) if low < high else [high]
        return sorted(size for size in {*uniform, *between, self.budget} if size >= self.space.smallest_bytes)

    @property
    def probe_sequences(self) -> int | None:
        """Return the sequences that a probe takes: a quarter of the text."""
        return self._share(4)

    @property
    def deciding_sequences(self) -> int | None:
        """Return the sequences that an operating point, and those of its neighbours that decide, take: half of them."""
        return self._share(2)

    def _share(self, parts: int) -> int | None:
        """Return a part of the text in whole steps of a race; None where that is all of it."""
        count = max(RACE_STEP, self.num_sequences // parts // RACE_STEP * RACE_STEP)
        return count if count < self.num_sequences else None

    def _begin(self, _points: Points, limit: int) -> list[Proposal]:
        """Return what comes first: the uniform plans, and of the others made by hand those nearest to the budget."""
        uniform = [Proposal(plan, UNIFORM) for _, plan in self.space.uniform_plans()]
        by_hand = sorted((plan for _, plan in heuristic_plans(self.space)), key=self._distance)
        room = max(0, min(MAX_GUARDS, limit - len(uniform)))
        return distinct([*uniform, *(Proposal(plan, HEURISTIC) for plan in by_hand[:room])])

    def _given(self, points: Points, _limit: int) -> list[Proposal]:
        """Return the plans that the request brings, as far as they were not measured yet."""
        return distinct([Proposal(plan, GIVEN) for _, plan in self.space.given], points.evidence.is_measured)

    def _distance(self, plan: Plan) -> float:
        return abs(log(self.space.weight_bytes(plan) / self.budget))

    def _probes(self, points: Points, limit: int) -> list[Proposal]:
        """Return the probes that the trials allow: each module at two bit-widths, or at one, or none."""
        if points.evidence.has_probes or KNAPSACK in points.evidence.origins:
            return []
        allowed = limit - self.num_sizes
        for probe_bits in (PROBE_BITS, PROBE_BITS[:1]):
            probes = [probe for item in self.space.items for probe in self._item_probes(item, probe_bits)]
            if len(probes) <= allowed:
                return probes
        return []

    def _item_probes(self, item: str, probe_bits: Sequence[int]) -> list[Proposal]:
        levels = {nearest_level(self.space.levels[item], Level(bits, 64)) for bits in probe_bits} - {self.base[item]}
        return [
            Proposal(self.space.changed(self.base, {item: level}), SENSITIVITY, self.probe_sequences, self.base)
            for level in sorted(levels or self._extremes(item)[: len(probe_bits)], key=str)
        ]

    def _extremes(self, item: str) -> list[Level]:
        """Return an item's other levels of most and of least error, for menus of one bit-width."""
        others = [level for level in self.space.levels[item] if level != self.base[item]]
        errors = {v: sum(self.errors[name][v] for name in self.space.items[item]) for v in others}
        order = sorted(others, key=lambda v: (-errors[v], str(v)))
        return list(dict.fromkeys([*order[:1], *order[-1:]]))

    def _spread(self, points: Points, _limit: int) -> list[Proposal]:
        """Return the additive model's plans over the whole range of sizes, and the gradients' at the budget, once."""
        if KNAPSACK in points.evidence.origins:
            return []
        by_gradients = (
            Points(self.space, [], price_errors(self.errors, self.prices), self.base) if self.prices else points
        )
        plans = [*points.solve(self.sizes), *by_gradients.solve([self.budget])]
        return distinct([Proposal(plan, KNAPSACK) for plan in plans], points.evidence.is_measured)

    def _point(self, points: Points, limit: int) -> list[Proposal]:
        """Return the probes of the next operating point, where the trials allow them."""
        if not points.evidence.has_probes:
            return []
        base = points.base_at(self.budget)
        if base is None and len(points.bases) < self.num_points:
            base = points.next_base(self.sizes, self.budget)
        if base is None:
            return []
        probes = [Proposal(plan, SENSITIVITY, self.probe_sequences, base) for plan in points.neighbours(base)]
        if 1 + len(probes) + self.round_size > limit:
            return []
        return [Proposal(base, SENSITIVITY, self.deciding_sequences, base), *probes]

    def _settle(self, points: Points, limit: int) -> list[Proposal]:
        """Return again, on more text, the last operating point's neighbours that its best plans may use, once.

        Where losses add up worst a third of all neighbours once more, with the point itself, on all text: there noise
        decides. Where that or the trials, less a round of plans, do not allow all, the ones that most plans use.
        """
        base = self._last_point(points)
        if base is None or (count := self._next_count(points, base)) is None:
            return []
        plans = points.contested(base, self._near(base), self.seed)[: max(0, limit - self.round_size)]
        if count < self.num_sequences or not plans:
            return [Proposal(plan, SENSITIVITY, count, base) for plan in plans]
        again = plans[: len(points.neighbours(base)) // 3]
        is_short = len(points.own(base).sequence_kl) < count
        return [Proposal(plan, SENSITIVITY, None, base) for plan in ([base, *again] if again and is_short else again)]

    def _next_count(self, points: Points, base: Plan) -> int | None:
        """Return on how many sequences the neighbours that decide at an operating point are measured next."""
        first, more = (count or self.num_sequences for count in (self.probe_sequences, self.deciding_sequences))
        if first < more and not points.is_settled(base, first):
            return more
        is_hard = more < self.num_sequences and points.residual(points.own(base)) > _HARD_RESIDUAL
        return self.num_sequences if is_hard and not points.is_settled(base, more) else None

    def _around(self, points: Points, _limit: int) -> list[Proposal]:
        """Return plans for the sizes around the operating point that was probed last."""
        base = self._last_point(points)
        if base is None:
            return []
        plans = points.candidates(self._near(base), 1, self.seed)
        return distinct([Proposal(plan, EXCHANGE) for plan in plans], points.evidence.is_measured)

    def _last_point(self, points: Points) -> Plan | None:
        """Return the operating point whose probes were the last thing measured."""
        base = points.observations[-1].base
        return None if base is None or base.digest == self.base.digest else base

    def _near(self, base: Plan) -> list[int]:
        """Return the sizes around an operating point, its own first."""
        size = self.space.weight_bytes(base)
        return [size, *(s for s in self.sizes if s != size and abs(log(s / size)) <= WINDOW)]

    def _refine(self, points: Points, _limit: int) -> list[Proposal]:
        """Screen more plans of the models on little text, then race the best of them on all of it."""
        if points.observations[-1].origin == SCREEN:
            return self._race(points)
        found: list[Proposal] = []
        for size in sorted(self.sizes, key=lambda s: (abs(log(s / self.budget)), s)):
            plans = points.candidates([size], 6, self.seed)
            fresh = [Proposal(p, SCREEN, self.probe_sequences) for p in plans if not points.evidence.is_screened(p)]
            found = distinct([*found, *fresh])
            if len(found) >= 3 * self.round_size:
                break
        return sorted(found, key=lambda p: self._distance(p.plan))[: 3 * self.round_size]

    def _race(self, points: Points) -> list[Proposal]:
        """Return the screened plans that come nearest to beating the best known one of their size, on the same text."""
        screened = []
        for o in reversed(points.observations):
            if o.origin != SCREEN:
                break
            rival = points.best_within(self.space.weight_bytes(o.plan))
            count = len(o.sequence_kl)
            lead = log(o.kl_divergence / (sum(rival.sequence_kl[:count]) / count)) if rival else 0.0
            screened.append((lead, o.plan.digest, o.plan))
        order = [Proposal(plan, REFINE) for _, _, plan in sorted(screened, key=lambda found: found[:2])]
        return distinct(order, points.evidence.is_measured)[: self.round_size]

    def _answer(self, points: Points, _limit: int) -> list[Proposal]:
        """Return plans at the budget from what is known, once."""
        if KNAPSACK in points.evidence.origins:
            return []
        at = [self.budget]
        plans = [*points.candidates(at, 1, self.seed), *points.solve(at), *points.rivals(*at)]
        return distinct([Proposal(plan, KNAPSACK) for plan in plans], points.evidence.is_measured)[:_WARM_PLANS]


def nearly_lossless(space: SearchSpace) -> Plan:
    """Return the plan that a space's first probes start from: the widest uniform one."""
    return space.uniform_plan(space.uniform_levels[-1])


def _without(proposals: list[Proposal], failed: Collection[Proposal]) -> list[Proposal]:
    return [p for p in proposals if p not in failed] if failed else proposals
