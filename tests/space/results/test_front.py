"""Pareto geometry against brute force."""

import time
from collections.abc import Callable
from math import fsum

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.results.front import (
    Point,
    bootstrap_interval,
    front_hypervolume,
    hypervolume,
    non_dominated,
    paired_interval,
)

grid = st.tuples(st.integers(0, 9), st.integers(0, 9))
fronts = st.lists(grid, max_size=12)
values = st.lists(st.floats(-100, 100), min_size=1, max_size=20)


def _dominates(a: Point, b: Point) -> bool:
    return a[0] <= b[0] and a[1] <= b[1] and a != b


@given(fronts)
def test_non_dominated(points: list[Point]) -> None:
    """Exactly the points that no other dominates, equal ones once, by rising size."""
    front = non_dominated(points)
    expected = {p for p in points if not any(_dominates(q, p) for q in points)}
    assert [points[i] for i in front] == sorted(expected)
    assert all(points.index(points[i]) == i for i in front)


@given(fronts, grid)
def test_hypervolume_counts_cells(points: list[Point], reference: Point) -> None:
    """On a grid the area is the number of unit cells that some point dominates."""
    cells = [(x, y) for x in range(int(reference[0])) for y in range(int(reference[1]))]
    covered = sum(any(p[0] <= x and p[1] <= y for p in points) for x, y in cells)
    assert hypervolume(points, reference) == covered


@given(fronts, grid)
def test_hypervolume_never_shrinks(points: list[Point], extra: Point) -> None:
    """A new point cannot make a front worse."""
    assert hypervolume([*points, extra], (10, 10)) >= hypervolume(points, (10, 10))


def test_front_hypervolume_is_a_share() -> None:
    """The whole box is one, nothing is zero; six decades below the reference count, no more."""
    reference = (100.0, 1.0)
    assert front_hypervolume([], reference, 10) == 0
    assert front_hypervolume([(10, 1e-6)], reference, 10) == pytest.approx(1)
    assert front_hypervolume([(10, 0.0)], reference, 10) == pytest.approx(1)
    assert front_hypervolume([(10, 1e-3)], reference, 10) == pytest.approx(0.5)
    assert front_hypervolume([(55, 1e-6)], reference, 10) == pytest.approx(0.5)
    assert front_hypervolume([(10, 2.0), (101, 1e-6)], reference, 10) == 0
    assert front_hypervolume([(100, 0.5)], reference, 100) == 0


@given(values)
def test_bootstrap_interval_is_deterministic_and_holds_the_mean(sample: list[float]) -> None:
    """The same values give the same interval, around their mean; it reaches below zero only where values do."""
    low, high = interval = bootstrap_interval(sample, num_resamples=100)
    assert interval == bootstrap_interval(sample, num_resamples=100)
    mean = fsum(sample) / len(sample)
    rounding = 1e-12 * max(map(abs, sample))
    assert low - rounding <= mean <= high + rounding
    assert low >= 0 or min(sample) < 0


@given(st.lists(st.floats(1e-12, 10), min_size=2, max_size=20), st.floats(1e-6, 1e6))
def test_bootstrap_interval_scales(sample: list[float], factor: float) -> None:
    """In other units it is the same interval."""
    low, high = bootstrap_interval(sample)
    scaled = bootstrap_interval([factor * v for v in sample])
    assert scaled == pytest.approx((factor * low, factor * high), rel=1e-6, abs=1e-9 * factor)


def _heavy(rng: np.random.Generator, sigma: float) -> np.ndarray:
    return rng.lognormal(0.0, sigma, 4000)


def _clustered(rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Return sequences of 100 files: each file has its own level, and its sequences scatter around it."""
    return (rng.lognormal(0.0, sigma, (100, 1)) * rng.lognormal(0.0, 0.5, (100, 40))).ravel()


@pytest.mark.parametrize("count", [48, 64])
@pytest.mark.parametrize(("population", "sigma"), [(_heavy, 0.5), (_heavy, 1.0), (_clustered, 0.5), (_clustered, 1.0)])
def test_intervals_cover_the_mean_of_the_full_text(
    population: Callable[[np.random.Generator, float], np.ndarray], sigma: float, count: int
) -> None:
    """Over 400 draws of skewed sequences, at least 90 % of the 95 % intervals hold the mean of all sequences."""
    rng = np.random.default_rng(7)
    text = population(rng, sigma)
    draws = [rng.choice(text, count, replace=False) for _ in range(400)]
    covered = [low <= text.mean() <= high for low, high in (bootstrap_interval(draw.tolist()) for draw in draws)]
    assert sum(covered) >= 0.9 * len(covered)


@pytest.mark.parametrize("seed", range(3))
def test_paired_intervals_cover_too(seed: int) -> None:
    """The difference of two plans, one a little worse, most of all where text is hard."""
    rng = np.random.default_rng(seed)
    ours = _heavy(rng, 1.0)
    theirs = ours * rng.lognormal(0.05, 0.2, len(ours))
    draws = [rng.choice(len(ours), 64, replace=False) for _ in range(400)]
    intervals = [paired_interval(ours[draw].tolist(), theirs[draw].tolist()) for draw in draws]
    true = (ours - theirs).mean()
    assert sum(low <= true <= high for low, high in intervals) >= 0.9 * len(intervals)


def test_intervals_are_fast() -> None:
    """Under 2 ms for 64 sequences, once the resamples of their number are drawn."""
    sample = [1 + (i * 7 % 64) / 64 for i in range(64)]
    bootstrap_interval(sample)
    started = time.process_time()
    for _ in range(50):
        bootstrap_interval(sample)
    assert (time.process_time() - started) / 50 < 2e-3


def test_bootstrap_interval_of_a_known_sample() -> None:
    """Close to the normal interval of the mean; a constant has none; another seed draws anew."""
    sample = [float(i % 10) for i in range(200)]
    low, high = bootstrap_interval(sample)
    half = 1.96 * 2.872 / 200**0.5
    assert low == pytest.approx(4.5 - half, abs=0.1)
    assert high == pytest.approx(4.5 + half, abs=0.1)
    assert bootstrap_interval([2.0] * 9) == (2.0, 2.0)
    assert bootstrap_interval(sample, seed=1) != (low, high)


def test_paired_interval_sees_small_steady_differences() -> None:
    """What is worse on every sequence is measurably worse, however much sequences differ."""
    theirs = [float(i) for i in range(30)]
    low, _ = paired_interval([t + 0.01 for t in theirs], theirs)
    assert low > 0
    low, high = paired_interval([t + (-1) ** i for i, t in enumerate(theirs)], theirs)
    assert low < 0 < high


def test_paired_interval_needs_the_same_sequences() -> None:
    """Sequences that only one of them saw cannot be paired."""
    with pytest.raises(ValueError, match="zip"):
        paired_interval([1.0], [1.0, 2.0])
