"""How much of a job is done and left, on a clock that only the test moves."""

import pytest

from search.progress.forecast import Forecast
from search.progress.phases import CALIBRATE, JUDGE, LEVELS, PHASES, SEARCH, TEXT, search_share
from tests.search.scripted import spec

PLAN = dict(zip(PHASES, (20.0, 40.0, 100.0, 400.0, 40.0), strict=True))


class Clock:
    """Seconds."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def at_levels(clock: Clock, speed: float) -> Forecast:
    """Return the forecast of a job that has its text, on a machine so many times as slow as planned."""
    forecast = Forecast(PLAN, clock=clock)
    forecast.enter(TEXT)
    clock.now += 20 * speed
    forecast.enter(CALIBRATE)
    clock.now += 40 * speed
    forecast.enter(LEVELS)
    return forecast


def test_without_anything_done_the_plan_counts() -> None:
    """It runs down, and never below nothing."""
    clock = Clock()
    forecast = Forecast(PLAN, clock=clock)
    assert forecast.seconds_left() == pytest.approx(600)
    clock.now += 15
    assert forecast.seconds_left() == pytest.approx(585)
    clock.now += 500
    assert forecast.seconds_left() >= 580


def test_a_phase_that_takes_too_long_makes_all_of_it_long() -> None:
    """Workers that start slowly will calibrate slowly, and nothing is nearly done while nothing moves."""
    clock = Clock()
    forecast = Forecast(PLAN, clock=clock)
    forecast.enter(TEXT)
    for waited, least in ((20, 580), (100, 2000), (200, 4000)):
        clock.now = 1000 + waited
        assert forecast.seconds_left() > least


@pytest.mark.parametrize("speed", [0.1, 1.0, 7.0])
def test_a_machine_of_another_speed_is_found_out(speed: float) -> None:
    """Phases that ended correct those to come, and a phase that is measured tells its own rest."""
    clock = Clock()
    forecast = at_levels(clock, speed)
    for done in range(1, 51):
        clock.now += 2 * speed
        forecast.advance(done / 50)
    assert forecast.seconds_left() == pytest.approx(440 * speed, rel=0.5)
    forecast.enter(SEARCH)
    for done in range(1, 31):
        clock.now += 4 * speed
        forecast.advance(done / 100)
    assert forecast.seconds_left() == pytest.approx(320 * speed, rel=0.25)
    for done in range(31, 101):
        clock.now += 4 * speed
        forecast.advance(done / 100)
    forecast.enter(JUDGE)
    clock.now += 40 * speed
    forecast.advance(1.0)
    assert forecast.seconds_left() == 0


def test_what_is_known_takes_no_time() -> None:
    """Phases that are left out, and a search that was half done, are behind at once."""
    clock = Clock()
    forecast = Forecast(PLAN, clock=clock)
    forecast.enter(SEARCH, 0.5)
    assert forecast.seconds_left() == pytest.approx(240, rel=0.15)
    clock.now += 80
    forecast.advance(0.9)
    assert forecast.seconds_left() == pytest.approx(20 + 20, rel=0.15)  # twice as fast as planned: judging will be, too


def test_a_search_known_to_be_short_is_short() -> None:
    """A warm job enters its search with what that will take."""
    clock = Clock()
    forecast = Forecast(PLAN, clock=clock)
    forecast.enter(SEARCH, expected=8.0)
    assert forecast.seconds_left() == pytest.approx(48, rel=0.15)


@pytest.mark.parametrize("minutes", [0.5, 2.0, 100.0])
def test_a_limit_on_minutes_ends_the_search(minutes: float) -> None:
    """Whatever its plan says, from wherever it is seen; judging comes after it."""
    clock = Clock()
    forecast = Forecast(PLAN, 60 * minutes, clock)
    allowed = min(400.0, max(0.0, 60 * minutes - 160))
    assert forecast.seconds_left() == pytest.approx(160 + allowed + 40)
    clock.now += 20
    forecast.enter(CALIBRATE)
    clock.now += 40
    forecast.enter(LEVELS)
    clock.now += 100
    forecast.enter(SEARCH)
    assert forecast.seconds_left() == pytest.approx(allowed + 40)


def test_share_of_a_search() -> None:
    """By token-forwards; one that takes more than expected is never done before it ends; a limit on trials counts."""
    assert search_share(spec(), 1000, 250, None) == 0.25
    assert 0.9 < search_share(spec(), 1000, 5000, None) < 1
    assert search_share(spec(), 1000, 0, None) == 0
    limited = spec(max_trials=60, num_search_samples=8, sequence_length=64)
    assert search_share(limited, 1e6, 1024, 2) == 0.5
    assert search_share(limited, 1e6, 1024, 0) == 1
