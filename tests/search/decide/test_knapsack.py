"""The knapsack against trying everything."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.decide.knapsack import Knapsack, Option, spread_sizes
from space.codings.coding import BITS
from space.level import Level

options = st.lists(st.tuples(st.integers(1, 60), st.integers(0, 50)), min_size=1, max_size=len(BITS)).map(
    lambda rows: [Option(Level(bits), size, loss / 16) for bits, (size, loss) in zip(BITS, rows, strict=False)]
)
problems = st.lists(options, min_size=1, max_size=4).map(lambda rows: {f"m{i}": row for i, row in enumerate(rows)})
Problem = dict[str, list[Option]]


def _chosen(problem: Problem, levels: dict[str, Level]) -> list[Option]:
    return [next(o for o in row if o.level == levels[name]) for name, row in problem.items()]


@given(problems, st.integers(0, 250))
def test_best_of_all_plans(problem: Problem, limit: int) -> None:
    """The loss is the least that fits, and the limit is never exceeded."""
    fitting = [p for p in product(*problem.values()) if sum(o.size_bytes for o in p) <= limit]
    levels = Knapsack(problem).solve(limit)
    if levels is None:
        assert not fitting
        return
    chosen = _chosen(problem, levels)
    assert list(levels) == list(problem)
    assert sum(o.size_bytes for o in chosen) <= limit
    assert sum(o.loss for o in chosen) == pytest.approx(min(sum(o.loss for o in p) for p in fitting))


@given(problems, st.integers(0, 250))
def test_rivals_are_the_best_of_all_others(problem: Problem, limit: int) -> None:
    """Each is the best plan with another level in its module, so the second best of all is one of them."""
    knapsack = Knapsack(problem)
    best = knapsack.solve(limit)
    fitting = [p for p in product(*problem.values()) if sum(o.size_bytes for o in p) <= limit]
    found = [sum(o.loss for o in _chosen(problem, levels)) for levels in knapsack.rivals(limit)]
    if best is None:
        assert not found
        return
    expected = []
    for index, name in enumerate(problem):
        others = [sum(o.loss for o in p) for p in fitting if p[index].level != best[name]]
        expected += [min(others)] if others else []
    assert found == pytest.approx(expected)


def test_realistic_size_stays_within_a_hair_of_the_bound() -> None:
    """With 60 modules of 12 levels the plan fits and leaves less room than its smallest step."""
    problem = {
        f"m{i}": [Option(Level(4, g), 1000 * g + 7 * i, (1 + i % 7) / 2.0**g) for g in range(1, 13)] for i in range(60)
    }
    knapsack = Knapsack(problem)
    for limit in (100_000, 345_678, 600_000):
        levels = knapsack.solve(limit)
        assert levels is not None
        used = sum(o.size_bytes for o in _chosen(problem, levels))
        assert limit - 1000 < used <= limit


def test_solving_again_gives_the_same() -> None:
    """A knapsack keeps no state between limits."""
    problem = {"a": [Option(Level(2), 1, 4.0), Option(Level(4), 2, 1.0)], "b": [Option(Level(3), 5, 0.0)]}
    knapsack = Knapsack(problem)
    assert knapsack.solve(5) is None
    assert knapsack.solve(6) == {"a": Level(2), "b": Level(3)}
    assert knapsack.solve(7) == {"a": Level(4), "b": Level(3)} == knapsack.solve(10**9)
    assert knapsack.solve(6) == {"a": Level(2), "b": Level(3)}


def test_spread_sizes() -> None:
    """Evenly in the logarithm, ends included."""
    assert spread_sizes(100, 10_000, 3) == [100, 1000, 10_000]
    assert spread_sizes(100, 10_000, 1) == [10_000]
