"""Operating points: where losses do not add up, the neighbours of a good plan tell how modules' errors interact.

All neighbours of a base are probed: each item one step up and one step down its hull. Level switches on the quadratic
model of their sketches (`quadratic_model`) then give plans for the sizes around the base. Neighbours that such plans
use are worth more text than the others.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import zip_longest
from math import log
from operator import itemgetter
from statistics import NormalDist

import numpy as np

from search.decide.additive_model import AdditiveModel, Probe
from search.decide.exchange import Arrivals, Found, search_exchanges
from search.decide.knapsack import Knapsack, Option
from search.decide.memo import Memo
from search.decide.observation import Observation
from search.decide.quadratic_model import Neighbour, QuadraticModel, fit_neighbours
from search.decide.seen import Evidence
from space.digest import digest
from space.level import Level
from space.menu import SearchSpace
from space.plan import Plan

WINDOW = 0.16  # log of bytes: how far from an operating point its model is trusted
_SPACING = (0.2, 0.36)  # log of bytes between an operating point and the next
_CAUTIONS = (0.5, 1.0)  # standard deviations by which changes are taken to be worse than predicted
_HOPES = (-1.0, 0.5)  # the same where it is asked which changes a good plan may use: for the better, too
_HOPEFUL = 3  # plans of each size that are looked at for that
_DOUBT = 0.3  # standard deviation of the logarithm of a module's price
_NORMAL = NormalDist()
_MIN_RESIDUAL = 0.04  # log of measured over predicted KL: losses that add up this well need no pairs


@dataclass(frozen=True)
class Points:
    """What is known of a space's plans: additive prices, and quadratic models around operating points.

    Attributes:
        space: the levels that may be chosen.
        observations: everything measured.
        additive: the model of near-lossless plans.
        wide: the nearly lossless plan that its probes started from.
        memory: of earlier batches.

    """

    space: SearchSpace
    observations: Sequence[Observation]
    additive: AdditiveModel
    wide: Plan
    memory: Memo = field(default_factory=Memo)

    @cached_property
    def evidence(self) -> Evidence:
        """Return what was measured, sorted; a memory's is one object that grows from batch to batch."""
        return evidence_of(self.space, self.observations, self.wide, self.memory)

    @property
    def bases(self) -> Sequence[Plan]:
        """Return the operating points, in the order of probing."""
        return self.evidence.points

    def best_within(self, size: int) -> Observation | None:
        """Return the best measured plan of at most so many weight bytes."""
        return self.evidence.best_within(size)

    def residual(self, observed: Observation) -> float:
        """Return log(measured / predicted) KL of the additive model."""
        return log(max(observed.kl_divergence, 1e-9) / max(self.additive.predict(observed.plan), 1e-9))

    def own(self, base: Plan) -> Observation:
        """Return the measurement of an operating point as one."""
        return next(o for o in self.evidence.probes_of(base) if o.plan == base)

    def base_at(self, budget: int) -> Plan | None:
        """Return the best plan at the budget, to probe its neighbours; None where that was done there or near.

        That losses add up in the best plan does not tell that they do in the others, so the budget's is always probed.
        """
        best, taken = self.best_within(budget), self._taken
        if best is None or best.plan.digest in self._probed:
            return None
        size = self.space.weight_bytes(best.plan)
        is_missed = is_near(size, [budget]) and not is_near(budget, taken)  # by an earlier job at another budget
        return best.plan if is_missed or not taken else None

    def next_base(self, sizes: Sequence[int], budget: int) -> Plan | None:
        """Return the plan whose neighbours to probe next: from the budget outwards, where losses add up worst.

        None where losses add up well enough everywhere near.
        """
        near = [size for size in sizes if _is_next(size, self._taken or [budget])]
        found = [o for size in near if (o := self.best_within(size)) and self._is_worth(o)]
        return max(found, key=lambda o: (self.residual(o), o.plan.digest)).plan if found else None

    @property
    def _taken(self) -> list[int]:
        """Return the weight bytes of the operating points."""
        return [self.space.weight_bytes(plan) for plan in self.bases]

    @property
    def _probed(self) -> set[str]:
        return {plan.digest for plan in (self.wide, *self.bases)}

    def _is_worth(self, observed: Observation) -> bool:
        """Tell whether a plan's neighbours are worth probing: they were not yet, and losses do not add up there."""
        return observed.plan.digest not in self._probed and self.residual(observed) > _MIN_RESIDUAL

    def neighbours(self, base: Plan) -> list[Plan]:
        """Return a base's plans with one item a step down or up its hull."""
        space = self.space
        return [space.changed(base, {item: v}) for item in space.items for v in self._steps(item, base[item])]

    def deciding(self, base: Plan, size: int, count: int) -> list[Plan]:
        """Return the neighbours of a base that may gain most at a size, by the additive model and its doubt.

        A change of loss d by b bytes is a loss of d + price x b at the going price per byte; that it is a gain all the
        same is worth the more, the larger d is (expected improvement, with d known to within `_DOUBT` of itself). Steps
        up and steps down come in turn: only together do they keep the bytes.
        """
        price = self._knapsack.price(size - self.space.others_bytes)
        worth: dict[bool, list[tuple[float, str, Plan]]] = {True: [], False: []}
        for plan in self.neighbours(base):
            item, level = next(choice for choice in plan.levels if choice[1] != base[choice[0]])
            sizes, names = self.space.item_sizes[item], self.space.items[item]
            extra = sizes[level] - sizes[base[item]]
            change = self.additive.loss(names, level) - self.additive.loss(names, base[item])
            gain = expected_improvement(change + price * extra, _DOUBT * abs(change))
            worth[extra > 0].append((-gain, f"{item} {level}", plan))
        up, down = (sorted(found, key=lambda w: w[:2]) for found in worth.values())
        turns = [plan for pair in zip_longest(up, down) for plan in pair if plan is not None]
        return [plan for _, _, plan in turns[:count]]

    def _steps(self, item: str, level: Level) -> list[Level]:
        sizes, hull = self.space.item_sizes[item], self._knapsack.hull(item)
        below = [option for option in hull if sizes[option] < sizes[level]]
        above = [option for option in hull if sizes[option] > sizes[level]]
        return [*below[-1:], *above[:1]]

    def is_settled(self, base: Plan, num_sequences: int) -> bool:
        """Tell whether any of a base's neighbours was measured on more sequences."""
        return any(len(o.sequence_kl) > num_sequences for o in self.evidence.probes_of(base) if o.plan != base)

    def contested(self, base: Plan, sizes: Sequence[int], seed: int) -> list[Plan]:
        """Return the neighbours of a base that good plans of its sizes may use, those that most of them use first.

        Good on the base's model as it is now, with changes taken to be better and to be worse than measured.
        """
        model, uses = self._model(base), Counter[tuple[str, Level]]()
        if model is None:
            return []
        for size in sizes:
            limit = size - self.space.others_bytes
            known = [chosen for plan in self.solve([size]) if (chosen := model.indices(plan)) is not None]
            for hope in _HOPES:
                ends = self._exchanges(model, hope, limit, known, self._salted(seed, size))
                uses.update(o for end in ends[:_HOPEFUL] for o in model.choices(end.chosen))
        order = sorted(uses, key=lambda used: (-uses[used], used[0], str(used[1])))
        return [self.space.changed(base, {item: level}) for item, level in order if base[item] != level]

    def solve(self, sizes: Sequence[int]) -> list[Plan]:
        """Return the additive model's best plan of each size that can be reached."""
        return [plan for size in sizes if (plan := self._solved(size)) is not None]

    @property
    def _knapsack(self) -> Knapsack:
        return self.memory.recall("knapsack", [self.additive], lambda: Knapsack(options_of(self.space, self.additive)))

    def _solved(self, size: int) -> Plan | None:
        known: dict[int, Plan | None] = self.memory.recall("solved", [self.additive], dict)
        if size not in known:
            levels = self._knapsack.solve(size - self.space.others_bytes)
            known[size] = None if levels is None else self.space.plan_of(levels.items())
        return known[size]

    def rivals(self, size: int) -> list[Plan]:
        """Return the plans behind the additive model's best one of a size, where there is reason to measure them.

        None where an operating point's model is trusted: it tells such plans apart, and the additive one cannot. None
        either where the best one was measured: whoever did has looked at this size.
        """
        if self._near(size) or all(map(self.evidence.is_measured, self.solve([size]))):
            return []
        return self.runners_up(size)

    def runners_up(self, size: int) -> list[Plan]:
        """Return the plans that the additive model puts behind its best one of a size, least loss first."""
        found = [self.space.plan_of(levels.items()) for levels in self._knapsack.rivals(size - self.space.others_bytes)]
        return sorted(dict.fromkeys(found), key=lambda plan: (self.additive.predict(plan), plan.digest))

    def candidates(self, sizes: Sequence[int], per_size: int, seed: int) -> list[Plan]:
        """Return, for each size, the plans that the nearest operating points' models like best, and the knapsack's."""
        found: list[Plan] = []
        for size in sizes:
            limit = size - self.space.others_bytes
            knapsack, best = self.solve([size]), self.best_within(size)
            starts = [*knapsack, *([best.plan] if best else [])]
            salted = self._salted(seed, size)
            for model in self._near(size):
                known = [chosen for plan in starts if (chosen := model.indices(plan)) is not None]
                for caution in _CAUTIONS:
                    ends = self._exchanges(model, caution, limit, known, salted)
                    found += [model.plan(end.chosen) for end in ends[:per_size]]
            found += knapsack
        return found

    def _salted(self, seed: int, size: int) -> int:
        return int(digest([seed, size, len(self.observations)])[:8], 16)

    def _exchanges(
        self, model: QuadraticModel, caution: float, limit: int, starts: Sequence[np.ndarray], seed: int
    ) -> list[Found]:
        name = f"{model.base.digest} {caution}"
        cautious = self.memory.recall(f"cautious {name}", [model], lambda: model.cautious(caution))
        arrivals = self.memory.recall(f"arrivals {name} {limit}", [model], Arrivals)
        return search_exchanges(cautious, limit, [model.start, *starts], seed, arrivals=arrivals)

    def _near(self, size: int) -> list[QuadraticModel]:
        """Return the models of the two nearest operating points that can be trusted at a size."""
        near = sorted(((abs(log(base / size)), model) for base, model in self._models), key=itemgetter(0))[:2]
        return [model for distance, model in near if distance <= WINDOW]

    @cached_property
    def _models(self) -> list[tuple[int, QuadraticModel]]:
        """Return (weight bytes of its base, model) of the operating points that have one."""
        models = [(self.space.weight_bytes(base), self._model(base)) for base in self.bases]
        return [(size, model) for size, model in models if model is not None]

    def _model(self, base: Plan) -> QuadraticModel | None:
        probes = self.evidence.probes_of(base)
        return self.memory.recall(f"model {base.digest}", [self.additive, *probes], lambda: self._fit(base, probes))

    def _fit(self, base: Plan, probes: Sequence[Observation]) -> QuadraticModel | None:
        own = next((o for o in probes if o.plan == base), None)
        if own is None or own.sketch is None:
            return None
        neighbours = [_neighbour(o, own) for o in probes if o.sketch is not None and o is not own]
        return fit_neighbours(self.space, base, own.sketch, neighbours, self.additive) if neighbours else None


def evidence_of(space: SearchSpace, observations: Sequence[Observation], wide: Plan, memory: Memo) -> Evidence:
    """Return what was measured, sorted; it goes on from what the memory has taken already."""
    return memory.grow("evidence", observations, lambda: Evidence(space, wide), Evidence.add)


def options_of(space: SearchSpace, model: AdditiveModel) -> Mapping[str, list[Option]]:
    """Return every item's levels with bytes and predicted loss."""
    return {
        item: [Option(v, space.item_sizes[item][v], model.loss(names, v)) for v in space.levels[item]]
        for item, names in space.items.items()
    }


def expected_improvement(loss: float, doubt: float) -> float:
    """Return the mean of what a change gains where it gains: its loss is normal with this deviation (Mockus, 1975)."""
    if doubt <= 0:
        return max(0.0, -loss)
    z = loss / doubt
    return doubt * (_NORMAL.pdf(z) - z * _NORMAL.cdf(-z))


def is_near(size: int, points: Iterable[int]) -> bool:
    """Tell whether the model of one of some operating points, by their weight bytes, is trusted at a size."""
    return any(abs(log(size / point)) <= WINDOW for point in points)


def _is_next(size: int, taken: Sequence[int]) -> bool:
    nearest = min(abs(log(size / other)) for other in taken)
    return _SPACING[0] <= nearest <= _SPACING[1]


def _neighbour(observed: Observation, base: Observation) -> Neighbour:
    probe = Probe.of(observed, base)
    assert observed.sketch is not None  # noqa: S101 (chosen by its sketch)
    return Neighbour(probe.module_name, probe.level, observed.sketch, probe.kl_divergence, probe.noise)
