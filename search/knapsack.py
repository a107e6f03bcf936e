"""The multiple-choice knapsack: one option per module, least cost within a byte limit, bytes exact.

A Lagrangian sweep gives all plans on the lower convex hull at once; between them a dynamic programme over the options
whose reduced cost can still win closes the gap (MCKP core, Pisinger 1995, section 3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

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
        self._names = list(options)
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
class _State:
    size_bytes: int
    loss: float
    option: Option | None = None
    before: "_State | None" = None

    def picks(self) -> list[Option]:
        found, state = [], self
        while state.before is not None and state.option is not None:
            found.append(state.option)
            state = state.before
        return found[::-1]


def _pareto_programme(
    core: Sequence[Sequence[Option]], price: float, floors: Sequence[float], slack: float, limit: int
) -> list[Option] | None:
    """Return the best plan over the core options; states beyond `_MAX_STATES` keep the least reduced cost."""
    free = [i for i, options in enumerate(core) if len(options) > 1]
    fixed = {i: options[0] for i, options in enumerate(core) if len(options) == 1}
    smallest_left = [0]
    for i in reversed(free):
        smallest_left.append(smallest_left[-1] + min(o.size_bytes for o in core[i]))
    smallest_left.reverse()
    states = [_State(sum(o.size_bytes for o in fixed.values()), sum(o.loss for o in fixed.values()))]
    floor_sum = sum(floors[i] for i in fixed)
    for index, options in enumerate(core[i] for i in free):
        floor_sum += floors[free[index]]
        grown = [
            _State(size, loss, o, s)
            for s in states
            for o in options
            if (size := s.size_bytes + o.size_bytes) + smallest_left[index + 1] <= limit
            and (loss := s.loss + o.loss) + price * size - floor_sum <= slack
        ]
        states = _thin(grown, price)
    if not states:
        return None
    best = min(states, key=lambda s: (s.loss, s.size_bytes)).picks()
    chosen = fixed | dict(zip(free, best, strict=True))
    return [chosen[i] for i in range(len(core))]


def _thin(states: list[_State], price: float) -> list[_State]:
    states.sort(key=lambda s: (s.size_bytes, s.loss))
    kept: list[_State] = []
    for state in states:
        if not kept or state.loss < kept[-1].loss:
            kept.append(state)
    if len(kept) > _MAX_STATES:
        kept = sorted(kept, key=lambda s: s.loss + price * s.size_bytes)[:_MAX_STATES]
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
