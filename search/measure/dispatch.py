"""Sending tasks to an executor and collecting their ends, with an eye on who asked to stop."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from search.measure.shared_prefixes import Batch
from space.errors import JobFailedError, TightfitError
from workers.pool.executor import Executor, Handle, Outcome
from workers.tasks import Task

POLL_SECONDS = 1.0
CHECK_SECONDS = 1.0
"""between two looks at who asked to stop: each one asks the database"""
_BATCHES_PER_WORKER = 2  # one that runs and one that waits
Collect = Callable[[int, Outcome], None]


class StopRequestedError(Exception):
    """Somebody asked the job to stop, or its time is over."""


class LazyExecutor:
    """An executor that is made when the first task comes: what is known already needs no workers."""

    def __init__(self, start: Callable[[], Executor], num_workers: int) -> None:
        """Remember how to make it."""
        self._start, self.num_workers = start, num_workers
        self._inner: Executor | None = None

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self._started().submit(task)

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks for one worker."""
        return self._started().submit_all(tasks, lane)

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended."""
        return [] if self._inner is None else self._inner.wait(timeout_seconds)

    def close(self) -> None:
        """Stop the workers, if there are any."""
        if self._inner is not None:
            self._inner.close()

    def _started(self) -> Executor:
        if self._inner is None:
            self._inner = self._start()
            self.num_workers = self._inner.num_workers
        return self._inner


def run_tasks(
    executor: Executor,
    tasks: Sequence[Task],
    collect: Collect,
    check_stop: Callable[[], None] = lambda: None,
    may_start: Callable[[], bool] = lambda: True,
    batches: Sequence[Batch] | None = None,
) -> list[int]:
    """Run tasks in any order; `collect(index, outcome)` is called once for each as it ends.

    Args:
        executor: where they run.
        tasks: what to run; only so many are handed over as keep all workers busy.
        collect: takes each end.
        check_stop: called about every second; raises to give up on what is left.
        may_start: asked before each batch; once it says no, only what was handed over is waited for.
        batches: which tasks one worker does, and in which order; each task is one where nothing is said.

    Returns:
        indices of the tasks that were not started.

    """
    left = deque(enumerate([Batch((index,)) for index in range(len(tasks))] if batches is None else batches))
    check_stop = _now_and_then(check_stop)
    index_of: dict[Handle, int] = {}
    batch_of: dict[Handle, int] = {}
    while left or index_of:
        while left and len(set(batch_of.values())) < _BATCHES_PER_WORKER * executor.num_workers and may_start():
            number, batch = left.popleft()
            handles = executor.submit_all([tasks[index] for index in batch.indices], batch.lane)
            index_of |= zip(handles, batch.indices, strict=True)
            batch_of |= dict.fromkeys(handles, number)
        if not index_of:
            break
        for outcome in executor.wait(POLL_SECONDS):
            if outcome.handle in index_of:  # ends of an earlier, abandoned batch are dropped
                del batch_of[outcome.handle]
                collect(index_of.pop(outcome.handle), outcome)
        check_stop()
    return [index for _, batch in left for index in batch.indices]


def _now_and_then(check: Callable[[], None]) -> Callable[[], None]:
    """Return a check that is made at once, and then again when some time has passed."""
    due = 0.0

    def checked() -> None:
        nonlocal due
        if time.monotonic() >= due:
            check()
            due = time.monotonic() + CHECK_SECONDS

    return checked


def job_error(what: str, error: TightfitError) -> TightfitError:
    """Return the error of a job that cannot do without something; a usage error stays what it is."""
    if error.exit_code != JobFailedError.exit_code:
        return error
    return JobFailedError(f"{what}: {error}")


def require_all(
    executor: Executor,
    tasks: Sequence[Task],
    progress: Callable[[int], None] = lambda _: None,
    check_stop: Callable[[], None] = lambda: None,
    keep: Callable[[int, Any], None] = lambda _index, _value: None,
) -> list[Any]:
    """Return the values of tasks that a job cannot do without.

    `progress` hears how many have ended, `keep` gets each index and value as it comes: what must outlive a stop.

    Raises:
        JobFailedError: one failed; a usage error of the task is raised as it is.

    """
    values: dict[int, Any] = {}

    def collect(index: int, outcome: Outcome) -> None:
        if outcome.error is not None:
            raise job_error(type(tasks[index]).__name__, outcome.error) from outcome.error
        values[index] = outcome.value
        keep(index, outcome.value)
        progress(len(values))

    run_tasks(executor, tasks, collect, check_stop)
    return [values[index] for index in range(len(tasks))]


_: type[Executor] = LazyExecutor
