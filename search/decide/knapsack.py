"""The multiple-choice knapsack: one option per module, least cost within a byte limit, bytes exact.

A Lagrangian sweep gives all plans on the lower convex hull at once; between them a dynamic programme over the options
whose reduced cost can still win closes the gap (MCKP core, Pisinger 1995, section 3).

Shape legend: N states of the programme.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from space.level import Level

_MAX_STATES = 4000
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Option:
    """One level of one module: stored bytes and the loss it is predicted to cause."""

    level: Level
    size_bytes: int
    loss: float


@dataclass(frozen=True, slots=True)
class _Step:
    """One move along a module's hull: `gain` is the loss saved per byte."""

    gain: float
    module: int
    option: Option
    extra_bytes: int
    saved: float


class Knapsack:
    """All modules' options, ready to be solved for any limit."""

    def __init__(self, options: Mapping[str, Sequence[Option]]) -> None:
        """Sort the options and find each module's lower convex hull."""
        self._all, self._names = options, list(options)
        self._options = [undominated(options[name]) for name in self._names]
        self._hulls = [lower_hull(o) for o in self._options]
        self._steps = sorted(self._all_steps(), key=lambda s: (-s.gain, s.module, s.option.size_bytes))
        self._start_bytes = sum(hull[0].size_bytes for hull in self._hulls)

    def hull(self, name: str) -> list[Level]:
        """Return the levels of a module that some price per byte prefers, by bytes."""
        return [option.level for option in self._hulls[self._names.index(name)]]

    def solve(self, limit_bytes: int) -> dict[str, Level] | None:
        """Return the best levels within a limit, or None where even the smallest options exceed it."""
        if self._start_bytes > limit_bytes:
            return None
        chosen, price = self._greedy(limit_bytes)
        chosen = self._close_gap(chosen, price, limit_bytes)
        return {name: option.level for name, option in zip(self._names, chosen, strict=True)}

    def price(self, limit_bytes: int) -> float:
        """Return the loss that the next byte saves at a limit; zero where all have their best options."""
        return self._greedy(limit_bytes)[1] if self._start_bytes <= limit_bytes else self._steps[0].gain

    def rivals(self, limit_bytes: int) -> list[dict[str, Level]]:
        """Return, for each module, the best levels within a limit that give it another one than the best of all do.

        The second best of all is among them (first step of Lawler's procedure for the K best, Management Science 18,
        1972).
        """
        best = self.solve(limit_bytes) or {}
        others = {name: [o for o in self._all[name] if o.level != level] for name, level in best.items()}
        found = [Knapsack({**self._all, name: left}).solve(limit_bytes) for name, left in others.items() if left]
        return [levels for levels in found if levels is not None]

    def _all_steps(self) -> list[_Step]:
        steps = []
        for module, hull in enumerate(self._hulls):
            for before, after in pairwise(hull):
                extra, saved = after.size_bytes - before.size_bytes, before.loss - after.loss
                steps.append(_Step(saved / extra, module, after, extra, saved))
        return steps

    def _greedy(self, limit: int) -> tuple[list[Option], float]:
        """Walk the hull while steps fit; return the options and the price (loss per byte) of the first that did not."""
        chosen = [hull[0] for hull in self._hulls]
        used, price, blocked = self._start_bytes, 0.0, set()
        for step in self._steps:
            if step.module in blocked:
                continue
            if used + step.extra_bytes <= limit:
                chosen[step.module] = step.option
                used += step.extra_bytes
            else:
                price = price or step.gain
                blocked.add(step.module)
        return chosen, price

    def _close_gap(self, chosen: list[Option], price: float, limit: int) -> list[Option]:
        """Search all plans whose reduced cost (loss + price x bytes) could still beat the greedy one."""
        if price <= 0:
            return chosen
        reduced = [[o.loss + price * o.size_bytes for o in options] for options in self._options]
        floors = [min(r) for r in reduced]
        slack = sum(o.loss for o in chosen) + price * limit - sum(floors)
        slack = max(slack, 0.0) + _ROUNDING * sum(floors)  # the greedy plan itself must stay inside
        core = [
            [o for o, r in zip(options, rs, strict=True) if r - floor <= slack]
            for options, rs, floor in zip(self._options, reduced, floors, strict=True)
        ]
        best = _pareto_programme(core, price, floors, slack, limit)
        better = best is not None and sum(o.loss for o in best) < sum(o.loss for o in chosen)
        return best if better and best is not None else chosen


@dataclass(frozen=True, slots=True)
class _States:
    """The partial plans that may still win; (N,) arrays: bytes, loss, last option, and which state it was added to."""

    size_bytes: np.ndarray
    loss: np.ndarray
    option: np.ndarray
    before: np.ndarray

    def pick(self, kept: np.ndarray) -> "_States":
        """Return some of the states, in the order of their indices."""
        return _States(self.size_bytes[kept], self.loss[kept], self.option[kept], self.before[kept])

    def grown(self, options: Sequence[Option]) -> "_States":
        """Return every state with every option added."""
        size = self.size_bytes[:, None] + np.array([o.size_bytes for o in options], dtype=np.int64)
        loss = self.loss[:, None] + np.array([o.loss for o in options])
        before, option = np.indices(size.shape)
        return _States(size.ravel(), loss.ravel(), option.ravel(), before.ravel())


def _pareto_programme(
    core: Sequence[Sequence[Option]], price: float, floors: Sequence[float], slack: float, limit: int
) -> list[Option] | None:
    """Return the best plan over the core options; states beyond `_MAX_STATES` keep the least reduced cost."""
    free = [i for i, options in enumerate(core) if len(options) > 1]
    fixed = {i: options[0] for i, options in enumerate(core) if len(options) == 1}
    smallest_left = [0, *accumulate(min(o.size_bytes for o in core[i]) for i in reversed(free))][::-1]
    start = np.array([sum(o.size_bytes for o in fixed.values())]), np.array([sum(o.loss for o in fixed.values())])
    layers = [_States(*start, np.zeros(1, dtype=int), np.zeros(1, dtype=int))]
    floor_sum = sum(floors[i] for i in fixed)
    for index, module in enumerate(free):
        floor_sum += floors[module]
        states = layers[-1].grown(core[module])
        may_fit = states.size_bytes + smallest_left[index + 1] <= limit
        may_win = states.loss + price * states.size_bytes - floor_sum <= slack
        layers.append(_thin(states.pick((may_fit & may_win).nonzero()[0]), price))
    if not len(layers[-1].loss):
        return None
    best = int(np.lexsort((layers[-1].size_bytes, layers[-1].loss))[0])
    chosen = dict(fixed)
    for module, states in zip(reversed(free), reversed(layers), strict=False):
        chosen[module] = core[module][states.option[best]]
        best = states.before[best]
    return [chosen[i] for i in range(len(core))]


def _thin(states: _States, price: float) -> _States:
    """Return the states that no smaller or equal one matches in loss, by bytes."""
    states = states.pick(np.lexsort((states.loss, states.size_bytes)))
    least_before = np.minimum.accumulate(np.concatenate([[np.inf], states.loss]))[:-1]
    kept = states.pick((states.loss < least_before).nonzero()[0])
    if len(kept.loss) > _MAX_STATES:
        kept = kept.pick((kept.loss + price * kept.size_bytes).argsort(kind="stable")[:_MAX_STATES])
    return kept


def undominated(options: Sequence[Option]) -> list[Option]:
    """Return the options that no smaller or equal one matches in loss, by bytes."""
    kept: list[Option] = []
    for option in sorted(options, key=lambda o: (o.size_bytes, o.loss, str(o.level))):
        if not kept or option.loss < kept[-1].loss:
            kept.append(option)
    return kept


def lower_hull(options: Sequence[Option]) -> list[Option]:
    """Return the lower convex hull of undominated options, by bytes."""
    hull: list[Option] = []
    for option in options:
        while len(hull) > 1 and _slope(hull[-2], option) <= _slope(hull[-2], hull[-1]):
            hull.pop()
        hull.append(option)
    return hull


def _slope(before: Option, after: Option) -> float:
    return (after.loss - before.loss) / (after.size_bytes - before.size_bytes)


def spread_sizes(smallest: int, largest: int, count: int) -> list[int]:
    """Return `count` sizes between two, evenly in their logarithm, ends included."""
    if count == 1:
        return [largest]
    ratio = largest / smallest
    return [int(smallest * ratio ** (i / (count - 1))) for i in range(count)]
