"""The short form of `tests.chaos.served`: a service that is killed while it is used."""

import pytest

from tests.chaos.served import run


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_service_loses_nothing(seed: int) -> None:
    """Three kills in a home: one job with the trials and the front of an undisturbed one, whole exports, no process."""
    kills, problems = run(3, 3, seed)
    assert (kills.total(), problems) == (3, [])
