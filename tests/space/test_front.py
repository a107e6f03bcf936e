"""Pareto geometry against brute force."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.front import Point, bootstrap_interval, front_hypervolume, hypervolume, non_dominated, paired_interval

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
def test_bootstrap_interval_is_deterministic_and_inside(sample: list[float]) -> None:
    """The same values give the same interval, within their range."""
    low, high = interval = bootstrap_interval(sample, num_resamples=100)
    assert interval == bootstrap_interval(sample, num_resamples=100)
    assert min(sample) - 1e-9 <= low <= high <= max(sample) + 1e-9


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
