"""Sending tasks to an executor and collecting their ends, with an eye on who asked to stop."""

from collections.abc import Callable, Sequence
from typing import Any

from space.errors import JobFailedError
from workers.executor import Executor, Outcome
from workers.tasks import Task

POLL_SECONDS = 1.0
Collect = Callable[[int, Outcome], None]


class StopRequestedError(Exception):
    """Somebody asked the job to stop, or its time is over."""


def run_tasks(
    executor: Executor, tasks: Sequence[Task], collect: Collect, check_stop: Callable[[], None] = lambda: None
) -> None:
    """Run tasks in any order; `collect(index, outcome)` is called once for each as it ends.

    Args:
        executor: where they run.
        tasks: what to run.
        collect: takes each end.
        check_stop: called at least every second; raises to give up on what is left.

    """
    index_of = {executor.submit(task): index for index, task in enumerate(tasks)}
    while index_of:
        for outcome in executor.wait(POLL_SECONDS):
            if outcome.handle in index_of:  # ends of an earlier, abandoned batch are dropped
                collect(index_of.pop(outcome.handle), outcome)
        check_stop()


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
            if outcome.error.exit_code != JobFailedError.exit_code:
                raise outcome.error
            raise JobFailedError(f"{type(tasks[index]).__name__}: {outcome.error}") from outcome.error
        values[index] = outcome.value
        keep(index, outcome.value)
        progress(len(values))

    run_tasks(executor, tasks, collect, check_stop)
    return [values[index] for index in range(len(tasks))]
