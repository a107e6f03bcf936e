"""A job's trials as its controller knows them: always what the store would say."""

from dataclasses import replace

import numpy as np
import pytest

from search.measure.trial_records import TrialRecords
from space.errors import StateError
from space.measurement import Measurement
from storage.in_memory import MemoryStore
from storage.records import Trial, TrialState
from tests.search.scripted import prepared, spec

PLANS = [plan for _, plan in prepared(spec()).space.uniform_plans()]
FOUND = Measurement.of_sequences([0.1, 0.2], [2.0, 2.1], 31, 64.0, 0.5)


def _records() -> tuple[MemoryStore, TrialRecords]:
    store = MemoryStore()
    store.create_job("one", spec())
    records = TrialRecords(store, "one")
    records.create([Trial("one", n, plan, "uniform", TrialState.WAITING, 100 + n) for n, plan in enumerate(PLANS)])
    return store, records


def test_what_is_written_is_read_without_the_store() -> None:
    """Ends, reasons and held-out measurements; a sketch is no part of a record."""
    store, records = _records()
    records.finish(1, TrialState.COMPLETE, replace(FOUND, sketch=np.zeros(4)))
    records.finish(0, TrialState.FAILED, reason="no")
    records.hold_out(1, FOUND)
    assert list(records.all()) == list(store.list_trials("one"))
    kept = records.all()[1].measurement
    assert kept is not None
    assert kept.sketch is None
    assert list(TrialRecords(store, "one").all()) == list(records.all())


def test_what_the_store_refuses_is_not_known() -> None:
    """An illegal move leaves both as they were."""
    store, records = _records()
    records.finish(0, TrialState.COMPLETE, FOUND)
    before = records.all()
    with pytest.raises(StateError):
        records.finish(0, TrialState.FAILED, reason="too late")
    with pytest.raises(StateError):
        records.create([before[0]])
    with pytest.raises(StateError):
        records.hold_out(2, FOUND)
    assert records.all() == before == tuple(store.list_trials("one"))
