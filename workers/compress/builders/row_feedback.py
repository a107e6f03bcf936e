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
    length: int,
) -> tuple[Floats, Floats]:
    """Return (V, O) signed symbols and the values that they stand for.

    It takes what `round_integers` takes, but behind the pruned ones (V, 4, 128) rising values of each subset, of which
    2^(bits - 1) count, and factors whose blocks of segments hold how the rows of one know of each other: below the
    diagonal what an earlier row's error adds to a later one's target, on it what errors of that sum cost; then (16,)
    the subset of each window, and T; the last segment may have fewer rows.
    """
    levels, rows = wanted_vo.shape
    symbols, values = np.empty_like(wanted_vo), np.empty_like(wanted_vo)
    for v in range(levels):
        lower, half = lower_voo[which_v[v]], half_v[v]
        target = wanted_vo[v].copy()
        for start in range((rows - 1) // length * length, -1, -length):
            stop = min(rows, start + length)
            part, inner = (target[start:stop], scale_vo[v, start:stop]), lower[start:stop, start:stop]
            keep = keep_vo[v, start:stop]
            windows = _best_way(*part, keep, codebooks[v], half, inner, subset_of)
            symbols[v, start:stop], values[v, start:stop] = _along_way(
                *part, keep, codebooks[v], half, inner, subset_of[windows], windows
            )
            for a in range(start, stop):
                _make_good(target, lower[a], wanted_vo[v, a] - values[v, a] * scale_vo[v, a], start)
    return symbols, values


def _make_good(target: Floats, row: Floats, error: np.floating[Any], count: int) -> None:
    """Add a row's error to the targets of the first `count` rows."""
    for b in range(count):
        target[b] += row[b] * error


def _nearest(middles: Floats, subset: int, count: int, wanted: np.floating[Any]) -> int:
    """Return which of a subset's `count` rising values, a power of two, is nearest: by what lies between them."""
    low, step = 0, count >> 1
    while step > 0:  # without a branch that nobody can foresee
        low += step * (wanted > middles[subset, low + step - 1])
        step >>= 1
    return low


def _best_way(
    wanted: Floats, scale: Floats, keep: Floats, books: Floats, half: int, inner: Floats, subset_of: Whole
) -> Whole:
    """Return the (T,) windows of the cheapest way round a segment, found from every state at once.

    Viterbi's algorithm, where each way carries its own errors on to the targets of later rows (per-survivor processing,
    Raheli, Polydoros and Tzou 1995): exact where rows do not know of each other.
    """
    length, middles = len(wanted), (books[:, 1:] + books[:, :-1]) / np.float32(2)
    total = np.full((_STATES, _STATES), np.float32(1e30))  # state now, state at the start
    taken = np.zeros((_STATES, _STATES), np.uint32)  # the steps so far as bits
    targets = np.empty((_STATES, _STATES, length), np.float32)
    for s in range(_STATES):
        total[s, s] = 0
        for other in range(_STATES):
            targets[s, other] = wanted
    next_total, next_taken, next_targets = np.empty_like(total), np.empty_like(taken), np.empty_like(targets)
    for t in range(length):
        unit = np.float32(1) / scale[t] if scale[t] != 0 else np.float32(0)
        size, ahead = scale[t] * keep[t], inner[:, t].copy()
        odd = np.float32(0) if keep[t] else np.float32(1e30)  # a pruned weight takes the step 0
        for s in range(_STATES):
            for state in range(_STATES):
                step, least, before, error = np.uint32(state & 1), np.float32(3e38), 0, np.float32(0)
                for way in range(2):
                    prior, subset = state >> 1 | way << 2, subset_of[state | way << 3]
                    target = targets[prior, s, t]
                    value = books[subset, _nearest(middles, subset, half, target * unit)] * size
                    cost = total[prior, s] + inner[t, t] * (target - value) ** 2 + odd * step
                    if cost < least:
                        least, before, error = cost, prior, wanted[t] - value
                next_total[state, s], next_taken[state, s] = least, taken[before, s] << np.uint32(1) | step
                for later in range(t + 1, length):
                    next_targets[state, s, later] = targets[before, s, later] + ahead[later] * error
        total, next_total, taken, next_taken = next_total, total, next_taken, taken
        targets, next_targets = next_targets, targets
    return _windows_of(total, taken, length)


def _windows_of(total: Floats, taken: NDArray[np.uint32], length: int) -> Whole:
    """Return (T,) windows of the cheapest way that ends where it began; its steps are bits, the last one lowest."""
    best, windows = 0, np.zeros(length, np.int64)
    for s in range(_STATES):
        best = s if total[s, s] < total[best, best] else best
    for t in range(length):
        for k in range(4):
            at = np.uint32(length - 1 - (t - k) % length)
            windows[t] |= np.int64(taken[best, best] >> at & np.uint32(1)) << k
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
        found = _nearest(middles, subsets[t], half, target[t] * unit)
        symbols[t] = (found * 2 + (windows[t] & 1) - half) * keep[t]
        values[t] = books[subsets[t], found] * keep[t]
        for later in range(t + 1, len(wanted)):
            target[later] += inner[later, t] * (wanted[t] - values[t] * scale[t])
    return symbols, values
