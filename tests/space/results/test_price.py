"""What a little more memory would buy."""

from math import exp, log

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.results.price import MarginalPrice, format_step, marginal_price, nice_step

MB = 10**6
points = st.lists(st.tuples(st.integers(10**5, 10**8).map(float), st.floats(1e-6, 10)), max_size=15)


def _decay(size: float) -> float:
    return exp(-size / MB)


def test_an_exponential_front_has_its_own_price() -> None:
    """KL falls by the same share with every byte: the price is exact there, whatever points stand beside."""
    front = [(float(size), _decay(size)) for size in range(2 * MB, 8 * MB, MB // 10)]
    worse = [(size + 5, 1.3 * kl) for size, kl in front]
    found = marginal_price([*front, *worse], 5 * MB + 9)
    assert found is not None
    assert found.step_bytes == 50_000
    assert found.kl_divergence_drop == pytest.approx(_decay(5 * MB) - _decay(5 * MB + 50_000))


def test_far_neighbours_tell_it_where_there_are_no_near_ones() -> None:
    """The next larger point, or the next smaller one."""
    front = [(2.0 * MB, 1.0), (4.0 * MB, 0.1)]
    for size in (2 * MB, 5 * MB):
        found = marginal_price(front, size)
        assert found is not None
        best = 1.0 if size < 4 * MB else 0.1
        share = exp(log(0.1) * found.step_bytes / (2 * MB))
        assert found.kl_divergence_drop == pytest.approx(best * (1 - share))


def test_too_few_points_tell_nothing() -> None:
    """None fits, or there is only one."""
    assert marginal_price([], MB) is None
    assert marginal_price([(2.0 * MB, 1.0), (3.0 * MB, 0.5)], MB) is None
    assert marginal_price([(2.0 * MB, 1.0), (3.0 * MB, 1.5)], 4 * MB) is None


@given(points, st.integers(10**5, 10**8))
def test_more_memory_never_hurts(measured: list[tuple[float, float]], budget: int) -> None:
    """The drop is at least nothing and at most all of the KL."""
    found = marginal_price(measured, budget)
    if found is not None:
        best = min(kl for size, kl in measured if size <= budget)
        assert 0 <= found.kl_divergence_drop <= best


@given(st.integers(1, 10**13))
def test_steps_are_about_a_hundredth(size_bytes: int) -> None:
    """Round, and at least one byte."""
    step = nice_step(size_bytes)
    assert str(step).strip("0") in ("1", "2", "5")
    assert 0.6 < step / max(1, size_bytes / 100) < 1.7


@pytest.mark.parametrize(
    ("step", "text"), [(1, "1 B"), (20_000, "20 kB"), (10**8, "100 MB"), (5 * 10**9, "5 GB"), (10**15, "1000 TB")]
)
def test_steps_in_words(step: int, text: str) -> None:
    """Decimal units, as the sizes of models are told."""
    assert format_step(step) == text
    assert str(MarginalPrice(step, 0.25)) == f"{text} more would lower KL by 0.25"
