"""The search where a limit does not allow all steps: a gradient pass prices everything, trials go where they decide.

Uniform plans around the budget and plans of the prices, the budget's first -> those neighbours of the best plan that
may gain most -> plans by level switches on their quadratic model -> what is left: plans near the budget, screened
where there are enough trials for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.decide.handmade_plans import HEURISTIC, heuristic_plans
from search.decide.observation import EXCHANGE, KNAPSACK, REFINE, SCREEN, SENSITIVITY, UNIFORM, Proposal, distinct
from search.decide.operating_points import Points
from search.decide.steps import NO_LIMIT, FrontStrategy

_GUARDS, _SIZES, _BEHIND = 6, 8, 10  # one trial in so many
_LEAST_PROBES, _LEAST_SHARE = 8, 4  # so many, and one neighbour in so many: fewer tell less than as many plans
_TRIALS_TO_SCREEN = 2  # rounds


@dataclass(frozen=True)
class CoarseStrategy(FrontStrategy):
    """Proposes batches of plans where trials are few.

    Attributes:
        max_trials: that the job may take.

    """

    max_trials: int = NO_LIMIT

    @property
    def _steps(self) -> Sequence[Callable[[Points, int], list[Proposal]]]:
        near = self._point, self._settle, self._around, self._refine, self._next_best
        return self._given, *near, self._elsewhere, self._runners_up

    def _begin(self, points: Points, _limit: int) -> list[Proposal]:
        """Return the plans made by hand around the budget, the prices' plans, and those that they put just behind.

        So whatever fewer trials would have found by prices alone is among what more of them start from.
        """
        guards = self._nearest_guards(max(1, self.max_trials // _GUARDS))
        sizes = sorted(self.sizes, key=lambda size: (abs(size - self.budget), size))
        plans = points.solve(sizes[: max(1, self.max_trials // _SIZES)])
        plans += points.runners_up(self.budget)[: min(self.round_size, self.max_trials // _BEHIND)]
        known = {p.plan for p in guards}
        return [*guards, *distinct([Proposal(p, KNAPSACK) for p in plans], known.__contains__)]

    def _nearest_guards(self, count: int) -> list[Proposal]:
        """Return the largest uniform plan within the budget, which must not be better, and the nearest others."""
        uniform = [plan for _, plan in self.space.uniform_plans()]
        fitting = [plan for plan in uniform if self.space.weight_bytes(plan) <= self.budget]
        by_hand = [Proposal(plan, HEURISTIC) for _, plan in heuristic_plans(self.space)]
        others = [*(Proposal(plan, UNIFORM) for plan in uniform), *by_hand]
        nearest = sorted(others, key=lambda p: self._distance(p.plan))
        first = [Proposal(max(fitting, key=self.space.weight_bytes), UNIFORM)] if fitting else []
        return distinct([*first, *nearest])[:count]

    def _point(self, points: Points, limit: int) -> list[Proposal]:
        """Return the neighbours of the budget's best plan that may gain most, as many as leave trials for plans."""
        base = points.base_at(self.budget)
        if base is None:
            return []
        room, most = limit - 1 - max(self.round_size, limit // 3), len(points.neighbours(base))
        if room < max(_LEAST_PROBES, most // _LEAST_SHARE):
            return []
        probes = points.deciding(base, self.budget, room)
        found = [Proposal(plan, SENSITIVITY, self.probe_sequences, base) for plan in probes]
        return [Proposal(base, SENSITIVITY, self.deciding_sequences, base), *found] if found else []

    def _settle(self, points: Points, limit: int) -> list[Proposal]:
        """Return again, on more text, the neighbours that decide; plans come first."""
        return super()._settle(points, limit)[: max(0, limit - self.round_size) // 3]

    def _around(self, points: Points, limit: int) -> list[Proposal]:
        """Return plans for the sizes around the operating point, the budget's first."""
        if EXCHANGE in points.evidence.origins:
            return []
        return super()._around(points, limit)

    def _refine(self, points: Points, limit: int) -> list[Proposal]:
        """Screen where there are trials for it and measure the best on all text; else measure at once."""
        if points.observations[-1].origin == SCREEN:
            return self._race(points)
        if not points.bases:
            return []  # prices alone have one plan for a size, which is measured, and its runners-up
        if limit >= _TRIALS_TO_SCREEN * self.round_size:
            return super()._refine(points, limit)[: limit * 3 // 4]
        plans = points.candidates([self.budget], self.round_size, self.seed)
        return distinct([Proposal(plan, REFINE) for plan in plans], points.evidence.is_measured)

    def _next_best(self, points: Points, limit: int) -> list[Proposal]:
        """Return the first of the runners-up, where nothing else was refined."""
        return [] if REFINE in points.evidence.origins else self._runners_up(points, limit)

    def _elsewhere(self, points: Points, _limit: int) -> list[Proposal]:
        """Return what makes the front wider: plans of prices at the other sizes, and what else is made by hand."""
        sizes = sorted(self.sizes, key=lambda size: (abs(size - self.budget), size))
        plans = [Proposal(plan, KNAPSACK) for plan in points.solve(sizes)]
        return distinct([*plans, *self._nearest_guards(self.max_trials)], points.evidence.is_measured)

    def _runners_up(self, points: Points, _limit: int) -> list[Proposal]:
        """Return the plans that prices alone put behind the best one, at the budget and then at the sizes around it."""
        found: list[Proposal] = []
        for size in sorted({self.budget, *self.sizes}, key=lambda size: (abs(size - self.budget), size)):
            plans = [Proposal(plan, REFINE) for plan in points.runners_up(size)]
            found = distinct([*found, *plans], points.evidence.is_measured)
            if len(found) >= self.round_size:
                break
        return found[: self.round_size]
