"""Where tasks run: the contract, and the in-process implementation.

`ray_pool` is the other implementation; both give the same results, so a whole search can run and be debugged in one
process.
"""

import traceback
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from space.errors import TightfitError, TrialError
from workers.tasks import Task, Workspace


@dataclass(frozen=True, slots=True)
class Handle:
    """Names a submitted task."""

    number: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a task: a value or an error, never both."""

    handle: Handle
    value: Any = None
    error: TightfitError | None = None


class Executor(Protocol):
    """Runs tasks in any order, each on one worker."""

    num_workers: int

    def submit(self, task: Task) -> Handle:
        """Queue a task."""

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks for one worker, which does them in this order; each ends by itself.

        Tasks of one lane have much in common: they go to the same worker where no other one has to wait for that.
        """

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended, at least one outcome unless the time is over or nothing is queued."""

    def close(self) -> None:
        """Stop all workers; queued tasks are dropped."""


@runtime_checkable
class Placed(Protocol):
    """An executor that tells where each node keeps what its workers make: node -> place, none on one machine."""

    places: Mapping[str, str]


class InlineExecutor:
    """Runs tasks one by one in this process when asked to wait."""

    num_workers = 1

    def __init__(self, workspace: Workspace) -> None:
        """Make the one worker."""
        import torch  # slow, and only where work is done

        from workers.worker import Worker

        torch.set_num_threads(1)
        self._worker = Worker(workspace)
        self._queue: deque[tuple[Handle, Task]] = deque()
        self._count = 0

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        handle = Handle(self._count)
        self._count += 1
        self._queue.append((handle, task))
        return handle

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:  # noqa: ARG002 (there is one worker)
        """Queue tasks."""
        return [self.submit(task) for task in tasks]

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:  # noqa: ARG002 (a task cannot be interrupted here)
        """Run the next task and return its end."""
        if not self._queue:
            return []
        handle, task = self._queue.popleft()
        return [run_task(self._worker, handle, task)]

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()


def run_task(worker: Any, handle: Handle, task: Task) -> Outcome:
    """Run a task on a worker; any failure becomes an error value that carries its evidence."""
    try:
        return Outcome(handle, worker.run(task))
    except TightfitError as error:
        return Outcome(handle, error=error)
    except Exception as error:  # noqa: BLE001 whatever a trial raises must cost only that trial
        where = "".join(traceback.format_exception(error)[-3:]).strip()
        return Outcome(handle, error=TrialError(f"{type(task).__name__} failed: {error!r}\n{where}"))


_: type[Executor] = InlineExecutor
