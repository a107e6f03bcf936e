"""Fixtures of the storage tests."""

import pytest

from space.spec import make_spec
from storage.records import Job
from storage.store import Store

pytest.register_assert_rewrite(*(f"tests.storage.contract{part}" for part in ("", "_jobs", "_leases", "_trials")))


@pytest.fixture
def job(store: Store) -> Job:
    """Give job "one" of the test's own store, QUEUED."""
    return store.create_job("one", make_spec(model="org/model", budget="60%"))
