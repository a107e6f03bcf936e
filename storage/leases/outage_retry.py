"""A store that outlasts an outage: what a controller writes to while the database restarts."""

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from space.errors import OutageError, StateError
from space.measurement import Measurement
from storage.point_tasks import PointTask, TaskLease, TaskState
from storage.records import Job, JobState, Known, Lease, Trial, TrialState
from storage.store import Store

PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.5
_Answer = TypeVar("_Answer")
_log = logging.getLogger("tightfit.store")


def held_store(store: Store, lease: Lease | TaskLease, patience_seconds: float = PATIENCE_SECONDS) -> Store:
    """Return a store for the holder of a lease: fenced, and patient while the database is away.

    A write whose answer was lost on the way is not repeated where the records show it.
    """
    return cast("Store", _Patient(store.holding(lease), lease, patience_seconds))


class _Patient:
    """Passes every verb on, again and again while the database cannot be reached.

    Most verbs may be said twice. Those that move something are refused the second time, though the first was heard and
    only its answer was lost: these are written out, each with how its records show that it was done.
    """

    def __init__(self, store: Store, lease: Lease | TaskLease, patience_seconds: float) -> None:
        self._store, self._lease, self._patience = store, lease, patience_seconds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._store, name)
        return lambda *args, **kwargs: self._insist(lambda: verb(*args, **kwargs))

    def set_job_state(self, job_id: str, state: JobState, error: str | None = None) -> Job:
        """Move the job; done where it has the state under our token."""

        def done() -> Job | None:
            job = self._store.get_job(job_id)
            return job if (job.state, job.token) == (state, self._lease.token) else None

        return self._insist(lambda: self._store.set_job_state(job_id, state, error), done)

    def set_task_state(self, task_id: str, state: TaskState, error: str | None = None) -> PointTask:
        """Move the task; done where it has the state under our token."""

        def done() -> PointTask | None:
            task = self._store.get_task(task_id)
            return task if (task.state, task.token) == (state, self._lease.token) else None

        return self._insist(lambda: self._store.set_task_state(task_id, state, error), done)

    def create_trials(self, trials: Sequence[Trial]) -> None:
        """Add trials; done where all of them are there as they were to be."""

        def done() -> bool | None:
            there = {t.number: (t.plan, t.state) for t in self._store.list_trials(trials[0].job_id)}
            return all(there.get(t.number) == (t.plan, t.state) for t in trials) or None

        self._insist(lambda: self._store.create_trials(trials), done)

    def finish_trial(
        self,
        job_id: str,
        number: int,
        state: TrialState,
        measurement: Measurement | None = None,
        reason: str | None = None,
        known: Known | None = None,
    ) -> None:
        """Move a trial; done where it has that end."""

        def done() -> bool | None:
            return any((t.number, t.state) == (number, state) for t in self._store.list_trials(job_id)) or None

        self._insist(lambda: self._store.finish_trial(job_id, number, state, measurement, reason, known), done)

    def _insist(self, verb: Callable[[], _Answer], done: Callable[[], Any] = lambda: None) -> _Answer:
        """Say a verb until it is heard.

        Args:
            verb: what to say.
            done: what stands for its answer where the records show that it was heard, None where they do not; asked
                where a second attempt is refused.

        """
        deadline = None
        while True:
            try:
                return verb()
            except OutageError as error:
                now = time.monotonic()
                if deadline is None:
                    _log.warning("%s Trying again for %.0f s.", error, self._patience)
                    deadline = now + self._patience
                if now >= deadline:
                    raise
                time.sleep(_PAUSE_SECONDS)
            except StateError:
                if deadline is None or (answer := done()) is None:
                    raise
                return cast("_Answer", answer)
