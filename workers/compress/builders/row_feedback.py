"""Rounding of a column whose rows know of each other, compiled: an error of one row is made good by the rows above it.

With the output factor H = L D L', L unit lower triangular, rows go from the last to the first, and the target of a row
is what is wanted of it plus the errors of the rows below it, weighed by L (two-sided LDL rounding, arXiv 2505.22988,
section 4, taken column by column: the order of anti-diagonals gives the same numbers, since a value depends on those
beside and below it alone). A segment of a trellis is decided at once, so that L is unit lower by blocks there.

Shape legend: V levels, O rows, T rows of a segment.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.compiled import compiled

_STATES = 8
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


@cache
def round_integers() -> Callable[[Floats, Floats, Floats, Floats, Floats, Whole], Floats]:
    """Return what gives (V, O) integers.

    It takes (V, O) what is wanted, not divided by the scale; (V, O) the scales; (V, O) one where kept, zero where
    pruned; (V,) 2^(bits - 1); some (O, O) unit lower triangular factors; (V,) which of them each level takes.
    """
    make_good = compiled(_make_good)

    def rounding(
        wanted_vo: Floats, scale_vo: Floats, keep_vo: Floats, half_v: Floats, lower_voo: Floats, which_v: Whole
    ) -> Floats:
        codes = np.zeros_like(wanted_vo)
        for v in range(wanted_vo.shape[0]):
            lower, half = lower_voo[which_v[v]], half_v[v]
            target = wanted_vo[v].copy()
            for a in range(target.shape[0] - 1, -1, -1):
                scale = scale_vo[v, a]
                if scale != 0:
                    codes[v, a] = min(max(np.rint(target[a] / scale), -half), half - 1) * keep_vo[v, a]
                make_good(target, lower[a], wanted_vo[v, a] - codes[v, a] * scale, a)
        return codes

    return compiled(rounding)


@cache
def round_trellis() -> Callable[
    [Floats, Floats, Floats, Floats, Whole, Floats, Whole, Whole, int], tuple[Floats, Floats]
]:
    """Return what gives (V, O) signed symbols and the values that they stand for.

    It takes what `round_integers` takes, but behind the pruned ones (V, 4, 128) rising values of each subset, of which
    2^(bits - 1) count, and factors that are the identity within segments; then (16,) the subset of each window, and T;
    the last segment may have fewer rows.
    """
    make_good, nearest, cheapest_round = compiled(_make_good), compiled(_nearest), compiled(_cheapest_round)

    def rounding(
        wanted_vo: Floats,
        scale_vo: Floats,
        keep_vo: Floats,
        codebooks: Floats,
        half_v: Whole,
        lower_voo: Floats,
        which_v: Whole,
        subset_of: Whole,
        length: int,
    ) -> tuple[Floats, Floats]:
        levels, rows = wanted_vo.shape
        symbols, values = np.empty_like(wanted_vo), np.empty_like(wanted_vo)
        index, near = np.empty((4, length), np.int64), np.empty((4, length), np.float32)
        cost = np.empty((4, length), np.float32)
        for v in range(levels):
            lower, half = lower_voo[which_v[v]], half_v[v]
            target = wanted_vo[v].copy()
            for start in range((rows - 1) // length * length, -1, -length):
                stop = min(rows, start + length)
                for a in range(start, stop):
                    scale = scale_vo[v, a]
                    wanted = target[a] / scale if scale != 0 else np.float32(0)
                    for z in range(4):
                        found = nearest(codebooks[v, z], half, wanted)
                        index[z, a - start], near[z, a - start] = found, codebooks[v, z, found]
                        cost[z, a - start] = ((codebooks[v, z, found] - wanted) * scale) ** 2
                windows = cheapest_round(cost, keep_vo[v, start:stop], subset_of)
                for a in range(start, stop):
                    subset, step = subset_of[windows[a - start]], windows[a - start] & 1
                    symbols[v, a] = (index[subset, a - start] * 2 + step - half) * keep_vo[v, a]
                    values[v, a] = near[subset, a - start] * keep_vo[v, a]
                    make_good(target, lower[a], wanted_vo[v, a] - values[v, a] * scale_vo[v, a], start)
        return symbols, values

    return compiled(rounding)


def _make_good(target: Floats, row: Floats, error: np.floating[Any], count: int) -> None:
    """Add a row's error to the targets of the first `count` rows."""
    for b in range(count):
        target[b] += row[b] * error


def _nearest(book: Floats, count: int, wanted: np.floating[Any]) -> int:
    """Return which of the first `count` rising values is nearest."""
    low, high = 0, count - 1
    while low < high:
        middle = (low + high) // 2
        if wanted > (book[middle] + book[middle + 1]) / 2:
            low = middle + 1
        else:
            high = middle
    return low


def _cheapest_round(cost: Floats, keep: Floats, subset_of: Whole) -> Whole:
    """Return (T,) windows of the cheapest way round a segment: Viterbi's algorithm, from every state at once."""
    length = len(keep)
    total = np.full((_STATES, _STATES), np.float32(1e30))  # state now, state at the start
    taken = np.zeros((_STATES, _STATES), np.uint32)  # the steps so far as bits
    for s in range(_STATES):
        total[s, s] = 0
    next_total, next_taken = np.empty_like(total), np.empty_like(taken)
    for t in range(length):
        for state in range(_STATES):
            step, first, second = np.uint32(state & 1), state >> 1, state >> 1 | 4
            one_cost, other_cost = cost[subset_of[state], t], cost[subset_of[state | 8], t]
            if keep[t] == 0:  # a pruned weight takes the step 0 and costs nothing
                one_cost = other_cost = np.float32(1e30) * step
            for s in range(_STATES):
                one, other = total[first, s] + one_cost, total[second, s] + other_cost
                next_total[state, s] = min(one, other)
                next_taken[state, s] = (taken[second, s] if other < one else taken[first, s]) << np.uint32(1) | step
        total, next_total, taken, next_taken = next_total, total, next_taken, taken
    best = 0
    for s in range(_STATES):
        best = s if total[s, s] < total[best, best] else best
    windows = np.zeros(length, np.int64)
    for t in range(length):
        for k in range(4):
            at = np.uint32(length - 1 - (t - k) % length)
            windows[t] |= np.int64(taken[best, best] >> at & np.uint32(1)) << k
    return windows
