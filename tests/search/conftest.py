"""Fixtures of the search tests."""

import pytest

from search.job import job_steps
from search.measure import dispatch
from tests.search.house import House
from tests.search.scripted import prepared


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    """Give an empty house whose models are scripted."""
    monkeypatch.setattr(job_steps, "prepare", prepared)
    monkeypatch.setattr(job_steps, "model_digest", lambda _: "m" * 64)
    monkeypatch.setattr(dispatch, "CHECK_SECONDS", 0.0)  # who asks to stop is heard at once, whatever the clock says
    return House()
