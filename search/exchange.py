"""Level switches on a quadratic model: the best single change or pair of changes that keeps the bytes, again and again.

This is the move of EvoPress (arXiv 2410.14649, section 3: one module down, one up) with the model in place of a
measurement, so that thousands of moves cost nothing; only what they end in is measured.

Shape legend: M modules, O options.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from search.interactions import QuadraticModel

_MAX_MOVES = 400
_CANDIDATES = 32  # singles looked at for pairs, in each direction
_GAIN = 1e-12


@dataclass(frozen=True, slots=True)
class Found:
    """A plan that no exchange improves: option indices and predicted KL."""

    chosen: np.ndarray
    predicted: float


def search_exchanges(
    model: QuadraticModel, limit_bytes: int, starts: Sequence[np.ndarray], seed: int, num_kicks: int = 24
) -> list[Found]:
    """Return distinct local optima within a limit, best first.

    Args:
        model: predicts.
        limit_bytes: of all modules together.
        starts: (M,) plans to start from, of any size.
        seed: of the kicks.
        num_kicks: random changes of the best plan so far, each followed by exchanges.

    """
    rng = np.random.default_rng(seed)
    found: dict[bytes, Found] = {}
    for start in starts:
        _keep(found, model, fit_bytes(model, start, limit_bytes), limit_bytes)
    if not found:
        return []
    for _ in range(num_kicks):
        best = min(found.values(), key=lambda f: f.predicted)
        kicked = _kick(model, best.chosen, rng)
        _keep(found, model, fit_bytes(model, kicked, limit_bytes), limit_bytes)
    return sorted(found.values(), key=lambda f: f.predicted)


def fit_bytes(model: QuadraticModel, start: np.ndarray, limit_bytes: int) -> np.ndarray | None:
    """Return a plan lowered, at the least predicted loss per byte, until it fits; None where it cannot."""
    walk = _Walk(model, start)
    while (excess := walk.size_bytes - limit_bytes) > 0:
        saved = -walk.extra_bytes
        rate = np.where(saved > 0, walk.changes() / np.maximum(np.minimum(saved, excess), 1), np.inf)
        option = int(rate.argmin())
        if not np.isfinite(rate[option]):
            return None
        walk.take(option)
    return walk.chosen


def _keep(found: dict[bytes, Found], model: QuadraticModel, chosen: np.ndarray | None, limit_bytes: int) -> None:
    if chosen is not None:
        best = improve(model, chosen, limit_bytes)
        found.setdefault(best.tobytes(), Found(best, model.predict(best)))


def improve(model: QuadraticModel, start: np.ndarray, limit_bytes: int) -> np.ndarray:
    """Return the plan that the best exchanges lead to; its bytes stay within the limit."""
    walk = _Walk(model, start)
    for _ in range(_MAX_MOVES):
        change, extra, slack = walk.changes(), walk.extra_bytes, limit_bytes - walk.size_bytes
        single = np.where(extra <= slack, change, np.inf)
        options, gain = [int(single.argmin())], float(single.min())
        pair, pair_gain = _best_pair(model, walk.chosen, change, extra, slack)
        if pair_gain < gain:
            options, gain = pair, pair_gain
        if gain >= -_GAIN:
            break
        for option in options:
            walk.take(option)
    return walk.chosen


class _Walk:
    """A plan on its way; its slopes follow every change, so that a move costs O(options) and not O(options x M)."""

    def __init__(self, model: QuadraticModel, start: np.ndarray) -> None:
        """Begin at a plan, which stays as it is."""
        self._model, self.chosen = model, start.copy()
        self._slope = model.gradient + model.curvature[start].sum(0)
        self._diagonal = model.curvature.diagonal()
        self._options = np.arange(len(model.module))

    @property
    def size_bytes(self) -> int:
        """Return the bytes of the plan."""
        return int(self._model.size_bytes[self.chosen].sum())

    @property
    def extra_bytes(self) -> np.ndarray:
        """Return (O,) bytes that each option alone adds."""
        extra: np.ndarray = self._model.size_bytes - self._model.size_bytes[self.chosen][self._model.module]
        return extra

    def changes(self) -> np.ndarray:
        """Return (O,) change of the predicted KL by each option alone."""
        now = self.chosen[self._model.module]
        own = self._diagonal + self._diagonal[now] - 2 * self._model.curvature[self._options, now]
        change: np.ndarray = self._slope - self._slope[now] + own / 2
        return change

    def take(self, option: int) -> None:
        """Give an option's module that option."""
        module = self._model.module[option]
        self._slope += self._model.curvature[option] - self._model.curvature[self.chosen[module]]
        self.chosen[module] = option


def _best_pair(
    model: QuadraticModel, chosen: np.ndarray, change: np.ndarray, extra: np.ndarray, slack: int
) -> tuple[list[int], float]:
    """Return the best two changes in different modules, one that takes bytes and one that gives some back."""
    moved = np.ones(len(change), dtype=bool)
    moved[chosen] = False
    takers, givers = _best(change, extra, moved & (extra > 0)), _best(change, extra, moved & (extra <= 0))
    if not len(takers) or not len(givers):
        return [], 0.0
    module_t, module_g = model.module[takers], model.module[givers]
    flat, width = model.curvature.reshape(-1), len(change)
    rows, now_rows, now_g = takers[:, None] * width, chosen[module_t][:, None] * width, chosen[module_g]
    total = flat[rows + givers] - flat[rows + now_g] - flat[now_rows + givers] + flat[now_rows + now_g]
    total += change[takers][:, None] + change[givers]
    is_too_large = extra[takers][:, None] + extra[givers] > slack
    total[is_too_large | (module_t[:, None] == module_g)] = np.inf
    first, second = np.unravel_index(total.argmin(), total.shape)
    return [int(takers[first]), int(givers[second])], float(total[first, second])


def _best(change: np.ndarray, extra: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return the options that change most for the better, in all and per byte."""
    options = np.flatnonzero(allowed)
    if len(options) <= _CANDIDATES:
        return options
    per_byte = change[options] / np.maximum(np.abs(extra[options]), 1)
    kept = np.zeros(len(options), dtype=bool)
    for value in (change[options], per_byte):
        kept[np.argpartition(value, _CANDIDATES)[:_CANDIDATES]] = True
    found: np.ndarray = options[kept]
    return found


def _kick(model: QuadraticModel, chosen: np.ndarray, rng: np.random.Generator, count: int = 4) -> np.ndarray:
    """Return a plan with a few modules one option up or down."""
    kicked = chosen.copy()
    for module in rng.choice(len(chosen), min(count, len(chosen)), replace=False):
        steps = [i for i in (kicked[module] - 1, kicked[module] + 1) if 0 <= i < len(model.module)]
        inside = [i for i in steps if model.module[i] == module]
        if inside:
            kicked[module] = rng.choice(inside)
    return kicked
