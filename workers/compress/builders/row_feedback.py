"""Rounding of a column whose rows know of each other, compiled: an error of one row is made good by the rows above it.

With the output factor H = L D L', L unit lower triangular, rows go from the last to the first, and the target of a row
is what is wanted of it plus the errors of the rows below it, weighed by L (two-sided LDL rounding, arXiv 2505.22988,
section 4, taken column by column: the order of anti-diagonals gives the same numbers, since a value depends on those
beside and below it alone). A segment of a trellis is decided at once, so that L is unit lower by blocks there, and D
has blocks: in them each way through the trellis makes good its own errors.

Shape legend: V levels, O rows, T rows of a segment.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.trellis_code import SEGMENT_ROWS

_STATES = 8
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


def round_integers(
    wanted_vo: Floats, scale_vo: Floats, keep_vo: Floats, half_v: Floats, lower_voo: Floats, which_v: Whole
) -> Floats:
    """Return (V, O) integers.

    It takes (V, O) what is wanted, not divided by the scale; (V, O) the scales; (V, O) one where kept, zero where
    pruned; (V,) 2^(bits - 1); some (O, O) unit lower triangular factors; (V,) which of them each level takes.
    """
    codes = np.zeros_like(wanted_vo)
    for v in range(wanted_vo.shape[0]):
        lower, half = lower_voo[which_v[v]], half_v[v]
        target = wanted_vo[v].copy()
        for a in range(target.shape[0] - 1, -1, -1):
            scale = scale_vo[v, a]
            if scale != 0:
                codes[v, a] = min(max(np.rint(target[a] / scale), -half), half - 1) * keep_vo[v, a]
            _make_good(target, lower[a], wanted_vo[v, a] - codes[v, a] * scale, a)
    return codes


def round_trellis(
    wanted_vo: Floats,
    scale_vo: Floats,
    keep_vo: Floats,
    codebooks: Floats,
    half_v: Whole,
    lower_voo: Floats,
    which_v: Whole,
    subset_of: Whole,
) -> tuple[Floats, Floats]:
    """Return (V, O) signed symbols and the values that they stand for.

    It takes what `round_integers` takes, but behind the pruned ones (V, 4, 128) rising values of each subset, of which
    2^(bits - 1) count, and factors whose blocks of segments hold how the rows of one know of each other: below the
    diagonal what an earlier row's error adds to a later one's target, on it what errors of that sum cost; then (16,)
    the subset of each window. The last segment may have fewer rows.
    """
    levels, rows = wanted_vo.shape
    symbols, values = np.empty_like(wanted_vo), np.empty_like(wanted_vo)
    for v in range(levels):
        lower, half = lower_voo[which_v[v]], half_v[v]
        target = wanted_vo[v].copy()
        for start in range((rows - 1) // SEGMENT_ROWS * SEGMENT_ROWS, -1, -SEGMENT_ROWS):
            stop = min(rows, start + SEGMENT_ROWS)
            part, scale, keep = target[start:stop], scale_vo[v, start:stop], keep_vo[v, start:stop]
            inner = lower[start:stop, start:stop]
            windows = _best_way(part, scale, keep, codebooks[v], half, inner, subset_of)
            symbols[v, start:stop], values[v, start:stop] = _along_way(
                part, scale, keep, codebooks[v], half, inner, subset_of[windows], windows
            )
            for a in range(start, stop):
                _make_good(target, lower[a], wanted_vo[v, a] - values[v, a] * scale_vo[v, a], start)
    return symbols, values


def _make_good(target: Floats, row: Floats, error: np.floating[Any], count: int) -> None:
    """Add a row's error to the targets of the first `count` rows."""
    for b in range(count):
        target[b] += row[b] * error


def _nearest(middles: Floats, count: int, wanted: np.floating[Any]) -> int:
    """Return which of `count` rising values, a power of two, is nearest: by what lies between them."""
    low, step = 0, count >> 1
    while step > 0:  # without a branch that nobody can foresee
        low += step * (wanted > middles[low + step - 1])
        step >>= 1
    return low


def _best_way(
    wanted: Floats, scale: Floats, keep: Floats, books: Floats, half: int, inner: Floats, subset_of: Whole
) -> Whole:
    """Return the (T,) windows of the cheapest way round a segment that is found: one that ends where it began.

    The cheapest way to an end from anywhere bounds those that begin there too, so that ends are tried in that order
    until none can be better: exact where rows do not know of each other.
    """
    books = books[subset_of]
    middles = (books[:, 1:] + books[:, :-1]) / np.float32(2)
    ahead_tt = np.zeros((SEGMENT_ROWS, SEGMENT_ROWS), np.float32)
    ahead_tt[: len(wanted), : len(wanted)] = inner.T
    least, steps, begin = np.float32(3e38), np.uint32(0), np.zeros(_STATES, np.float32)
    bounds, _ = _all_ways(wanted, scale, keep, books, middles, half, ahead_tt, begin)
    for _ in range(_STATES):
        end = _lowest(bounds)
        if bounds[end] >= least:
            break
        begin[:] = 1e30
        begin[end], bounds[end] = 0, 3e38
        totals, taken = _all_ways(wanted, scale, keep, books, middles, half, ahead_tt, begin)
        if totals[end] < least:
            least, steps = totals[end], taken[end]
    return _windows_of(steps, len(wanted))


def _lowest(costs: Floats) -> int:
    """Return which cost is the lowest."""
    found = 0
    for s in range(len(costs)):
        found = s if costs[s] < costs[found] else found
    return found


def _all_ways(
    wanted: Floats,
    scale: Floats,
    keep: Floats,
    books: Floats,
    middles: Floats,
    half: int,
    ahead_tt: Floats,
    begin: Floats,
) -> tuple[Floats, NDArray[np.uint32]]:
    """Return what the cheapest way to each of the states costs, and its steps as bits.

    Values and what lies between them are those of each of the 16 windows; beginnings cost (8,) `begin`.

    Viterbi's algorithm, where each way carries its own errors on to the targets of later rows (per-survivor processing,
    Raheli, Polydoros and Tzou 1995): exact where rows do not know of each other.
    """
    total, taken = begin.copy(), np.zeros(_STATES, np.uint32)
    targets = np.zeros((_STATES, SEGMENT_ROWS), np.float32)
    targets[:, : len(wanted)] = wanted
    next_total, next_taken, next_targets = np.empty_like(total), np.empty_like(taken), np.empty_like(targets)
    for t in range(len(wanted)):
        unit = np.float32(1) / scale[t] if scale[t] != 0 else np.float32(0)
        size, weight = scale[t] * keep[t], ahead_tt[t, t]
        odd = np.float32(0) if keep[t] else np.float32(1e30)  # a pruned weight takes the step 0
        for state in range(_STATES):
            low, high = state >> 1, state >> 1 | 4
            first = books[state, _nearest(middles[state], half, targets[low, t] * unit)] * size
            second = books[state | 8, _nearest(middles[state | 8], half, targets[high, t] * unit)] * size
            cost = total[low] + weight * (targets[low, t] - first) ** 2
            other = total[high] + weight * (targets[high, t] - second) ** 2
            is_other = other < cost
            before, error = (high, wanted[t] - second) if is_other else (low, wanted[t] - first)
            next_total[state] = (other if is_other else cost) + odd * np.float32(state & 1)
            next_taken[state] = taken[before] << np.uint32(1) | np.uint32(state & 1)
            for row in range(SEGMENT_ROWS):  # those before t, too: a loop of a known length is faster
                next_targets[state, row] = targets[before, row] + ahead_tt[t, row] * error
        total, next_total, taken, next_taken = next_total, total, next_taken, taken
        targets, next_targets = next_targets, targets
    return total, taken


def _windows_of(steps: np.uint32, length: int) -> Whole:
    """Return the (T,) windows of a way whose steps are bits, the last one lowest."""
    windows = np.zeros(length, np.int64)
    for t in range(length):
        for k in range(4):
            at = np.uint32(length - 1 - (t - k) % length)
            windows[t] |= np.int64(steps >> at & np.uint32(1)) << k
    return windows


def _along_way(
    wanted: Floats,
    scale: Floats,
    keep: Floats,
    books: Floats,
    half: int,
    inner: Floats,
    subsets: Whole,
    windows: Whole,
) -> tuple[Floats, Floats]:
    """Return (T,) signed symbols and values of a way through a segment, by its (T,) subsets and windows."""
    target, middles = wanted.copy(), (books[:, 1:] + books[:, :-1]) / np.float32(2)
    symbols, values = np.empty_like(wanted), np.empty_like(wanted)
    for t in range(len(wanted)):
        unit = np.float32(1) / scale[t] if scale[t] != 0 else np.float32(0)
        found = _nearest(middles[subsets[t]], half, target[t] * unit)
        symbols[t] = (found * 2 + (windows[t] & 1) - half) * keep[t]
        values[t] = books[subsets[t], found] * keep[t]
        for later in range(t + 1, len(wanted)):
            target[later] += inner[later, t] * (wanted[t] - values[t] * scale[t])
    return symbols, values
