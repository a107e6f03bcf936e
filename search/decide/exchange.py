"""Level switches on a quadratic model: the best single change or pair of changes that keeps the bytes, again and again.

This is the move of EvoPress (arXiv 2410.14649, section 3: one module down, one up) with the model in place of a
measurement, so that thousands of moves cost nothing; only what they end in is measured.

Shape legend: M modules, O options, T options that take bytes, G options that give some back.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np

from search.decide.quadratic_model import QuadraticModel

_MAX_MOVES = 400
_CANDIDATES = 32  # singles looked at for pairs, in each direction
_GAIN = 1e-12
_ROUNDING = 1 + 1e-9
_MAX_ARRIVALS = 8


@dataclass(frozen=True, slots=True)
class Found:
    """A plan that no exchange improves: option indices and predicted KL."""

    chosen: np.ndarray
    predicted: float


class Arrivals(dict[bytes, "Walk | None"]):
    """Where starts end without kicks, on one model and within one limit: later searches begin from there."""

    def of(self, model: QuadraticModel, start: np.ndarray, limit_bytes: int) -> "Walk | None":
        """Return the walk from a start to what no exchange improves; None where nothing fits."""
        key = start.tobytes()
        if key not in self:
            if len(self) >= _MAX_ARRIVALS:
                self.clear()
            walk = Walk(model, start)
            fits = walk.fit(limit_bytes)
            if fits:
                walk.improve(limit_bytes)
            self[key] = walk if fits else None
        return self[key]


def search_exchanges(
    model: QuadraticModel,
    limit_bytes: int,
    starts: Sequence[np.ndarray],
    seed: int,
    num_kicks: int = 8,
    arrivals: Arrivals | None = None,
) -> list[Found]:
    """Return distinct local optima within a limit, best first.

    Args:
        model: predicts.
        limit_bytes: of all modules together.
        starts: (M,) plans to start from, of any size.
        seed: of the kicks.
        num_kicks: random changes of the best plan so far, each followed by exchanges.
        arrivals: of earlier searches on this model and limit.

    """
    rng = np.random.default_rng(seed)
    arrivals = Arrivals() if arrivals is None else arrivals
    ends: dict[bytes, tuple[float, Walk]] = {}

    def arrive(walk: Walk) -> None:
        if (key := walk.chosen.tobytes()) not in ends:
            ends[key] = walk.predicted, walk

    for start in starts:
        if (walk := arrivals.of(model, start, limit_bytes)) is not None:
            arrive(walk)
    if not ends:
        return []
    for _ in range(num_kicks):
        _, best = min(ends.values(), key=itemgetter(0))
        walk = _kicked(best, rng)
        if walk.fit(limit_bytes):
            walk.improve(limit_bytes, ends)
            arrive(walk)
    return [Found(walk.chosen, predicted) for predicted, walk in sorted(ends.values(), key=itemgetter(0))]


class Walk:
    """A plan on its way; all that its moves change follows them, so that a move costs O(options) at most."""

    def __init__(self, model: QuadraticModel, start: np.ndarray) -> None:
        """Begin at a plan, which stays as it is."""
        self.model, self.chosen = model, start.copy()
        self._now = start[model.module]  # (O,) the option that each option would replace
        self._slope = model.gradient + model.curvature[start].sum(0)
        # (O,) |change|² of each option alone
        self._square = model.diagonal + model.diagonal[self._now] - 2 * model.curvature[model.every, self._now]
        self._extra = model.size_bytes - model.size_bytes[self._now]  # (O,) bytes that each option alone adds
        self.size_bytes = int(model.size_bytes[start].sum())

    def copy(self) -> "Walk":
        """Return another walk from here."""
        other = object.__new__(Walk)
        other.model, other.size_bytes = self.model, self.size_bytes
        other.chosen, other._now, other._slope = self.chosen.copy(), self._now.copy(), self._slope.copy()
        other._square, other._extra = self._square.copy(), self._extra.copy()
        return other

    @property
    def predicted(self) -> float:
        """Return the KL that the model predicts here."""
        gradient = self.model.gradient[self.chosen].sum()
        return float(self.model.kl_divergence + (gradient + self._slope[self.chosen].sum()) / 2)

    def take(self, option: int) -> None:
        """Give an option's module that option."""
        move = self.model.moves[option]
        own, before = move.own, self.chosen[move.module]
        self._slope += self.model.curvature[option] - self.model.curvature[before]
        self._now[own] = self.chosen[move.module] = option
        self._square[own], self._extra[own] = move.square, move.extra
        self.size_bytes += move.size_bytes - self.model.moves[before].size_bytes

    def fit(self, limit_bytes: int) -> bool:
        """Lower the plan, at the least predicted loss per byte, until it fits; tell whether it does."""
        while (excess := self.size_bytes - limit_bytes) > 0:
            saved = -self._extra
            rate = np.where(saved > 0, self._changes() / np.maximum(np.minimum(saved, excess), 1), np.inf)
            option = int(rate.argmin())
            if not np.isfinite(rate[option]):
                return False
            self.take(option)
        return True

    def improve(self, limit_bytes: int, ends: Container[bytes] = ()) -> None:
        """Take the best exchange, again and again, until none is left or the plan is one of the known ends."""
        for _ in range(_MAX_MOVES):
            if self.chosen.tobytes() in ends:
                return
            options = self._best_exchange(limit_bytes - self.size_bytes)
            if not options:
                return
            for option in options:
                self.take(option)

    def _changes(self) -> np.ndarray:
        """Return (O,) change of the predicted KL by each option alone."""
        changes: np.ndarray = self._slope - self._slope[self._now] + self._square / 2
        return changes

    def _best_exchange(self, slack: int) -> list[int]:
        """Return the option, or the two, that gain most within so many more bytes; none where nothing gains."""
        change = self._changes()
        single = np.where(self._extra <= slack, change, np.inf)
        option = int(single.argmin())
        gain = min(float(single[option]), -_GAIN)
        pair = self._best_pair(change, slack, gain)
        return pair or ([option] if single[option] < -_GAIN else [])

    def _best_pair(self, change: np.ndarray, slack: int, gain: float) -> list[int]:
        """Return the best two changes in different modules, one that takes bytes and one that gives some back.

        Empty where none gains more than `gain`. What two changes add together is a product of vectors, at most that of
        their lengths (Cauchy-Schwarz: the curvature is positive semidefinite), so only a few pairs need it.
        """
        model, extra = self.model, self._extra
        per_byte = change / np.maximum(np.abs(extra), 1)
        takes = extra > 0
        takers = _best(change, per_byte, takes)
        givers = _best(change, per_byte, ~takes & (self._now != model.every))
        length_t, length_g = (np.sqrt(np.maximum(self._square[o], 0)) * _ROUNDING for o in (takers, givers))
        alone_tg = change[takers][:, None] + change[givers]
        is_open = alone_tg - length_t[:, None] * length_g < gain
        is_open &= extra[takers][:, None] + extra[givers] <= slack
        first, second = is_open.nonzero()
        takers, givers, alone = takers[first], givers[second], alone_tg[first, second]
        others = model.module[takers] != model.module[givers]
        takers, givers, alone = takers[others], givers[others], alone[others]
        if not len(takers):
            return []
        curvature, now_t, now_g = model.curvature, self._now[takers], self._now[givers]
        together = curvature[takers, givers] - curvature[takers, now_g]
        total = together - curvature[now_t, givers] + curvature[now_t, now_g] + alone
        best = int(total.argmin())
        return [int(takers[best]), int(givers[best])] if total[best] < gain else []


def _kicked(walk: Walk, rng: np.random.Generator, count: int = 4) -> Walk:
    """Return a walk that begins with a few modules one option up or down."""
    kicked, moves = walk.copy(), walk.model.moves
    for module in rng.choice(len(walk.chosen), min(count, len(walk.chosen)), replace=False):
        option = int(walk.chosen[module])
        if beside := moves[option].beside:
            kicked.take(beside[rng.integers(len(beside))])
    return kicked


def _best(change: np.ndarray, per_byte: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the options that change most for the better, in all and per byte."""
    options: np.ndarray = allowed.nonzero()[0]
    if len(options) <= _CANDIDATES:
        return options
    kept = np.zeros(len(options), dtype=bool)
    for value in (change, per_byte):
        kept[value[options].argpartition(_CANDIDATES)[:_CANDIDATES]] = True
    return options[kept]
