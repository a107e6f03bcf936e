"""A job that every controller dies of is not tried for ever, and one that gets on is."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from storage.in_memory import MemoryStore
from storage.leases.deaths import MAX_DEATHS
from storage.leases.lease import Silence
from storage.records import Job, JobState, Lease, TrialState
from tests.storage.values import MEASURED, spec, trial
from tightfit.work import Server


class Died(BaseException):
    """The end of a controller, as far as its records show it."""


def serve(store: MemoryStore, before_death: Callable[[Lease], None] = lambda _: None, num_deaths: int = 1) -> Job:
    """Let controllers run the one job and die of it, one after another; return what they left."""

    def run(lease: Lease) -> None:
        before_death(lease)
        raise Died

    for _ in range(num_deaths):
        with suppress(Died):
            Server(store, run, Silence(0.02), 0.005).serve(until_idle=True)
    return store.get_job("one")


@pytest.fixture
def store() -> MemoryStore:
    """Give a store with one job that has trials to measure."""
    store = MemoryStore()
    store.create_job("one", spec())
    store.create_trials([replace(trial(number), job_id="one") for number in range(2 * MAX_DEATHS)])
    return store


def test_job_that_all_die_of_has_failed(store: MemoryStore) -> None:
    """With the step and the last one's name; who resumes it tries again, with as much patience."""
    for _ in range(2):
        store.update_job("one", phase="measuring 5 knapsack plans; of several words")
        assert serve(store, num_deaths=MAX_DEATHS).state is JobState.RUNNING
        job = serve(store)
        assert (job.state, job.holder) == (JobState.FAILED, None)
        told = str(job.error)
        assert told.startswith(f"{MAX_DEATHS} controllers in a row ended or fell silent at the same step (measuring 5 ")
        assert "knapsack plans, 0 trials finished); the last was process " in told
        assert told.endswith(". Look at its machine's memory and log; `tightfit resume one` tries again.")
        assert {t.state for t in store.list_trials("one")} == {TrialState.WAITING}
        store.resume_job("one")


@pytest.mark.parametrize("kind", ["trial", "phase"])
def test_job_that_gets_on_is_tried_again(store: MemoryStore, kind: str) -> None:
    """However often its controllers die."""
    numbers = iter(range(2 * MAX_DEATHS))

    def get_on(lease: Lease) -> None:
        if kind == "trial":
            store.holding(lease).finish_trial("one", next(numbers), TrialState.COMPLETE, MEASURED)
        else:
            store.holding(lease).update_job("one", phase=f"building levels, {next(numbers)} of 10 modules")

    assert serve(store, get_on, 2 * MAX_DEATHS).state is JobState.RUNNING
