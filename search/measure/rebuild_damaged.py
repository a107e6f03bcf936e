"""An executor that builds damaged levels again: a task that met one waits so long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from space.errors import LevelDamagedError
from workers.pool.executor import Executor, Handle, Outcome
from workers.tasks import DAMPED_BITS, BuildLevels, Calibrate, ChooseDamping, Task


@dataclass(slots=True)
class _Asked:
    """A task of the caller's, under the handle that the caller has."""

    handle: Handle
    task: Task
    num_repairs: int = 0


class Repairing:
    """Passes tasks on to another executor.

    Args:
        inner: does the work.
        note: told what is mended.

    """

    def __init__(self, inner: Executor, note: Callable[[str], None]) -> None:
        """Know no module's levels yet."""
        self._inner, self._note, self.num_workers = inner, note, inner.num_workers
        self._tasks: Mapping[str, BuildLevels] = {}
        self._asked: dict[Handle, _Asked] = {}
        self._repairs: dict[Handle, tuple[_Asked, list[Task]]] = {}

    def learn(self, tasks: Sequence[BuildLevels]) -> None:
        """Learn how the levels of each module are built."""
        self._tasks = {task.module_name: task for task in tasks}

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks for one worker."""
        handles = self._inner.submit_all(tasks, lane)
        self.num_workers = self._inner.num_workers
        self._asked |= {handle: _Asked(handle, task) for handle, task in zip(handles, tasks, strict=True)}
        return handles

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended; a task that is mended ends later."""
        outcomes = [self._ended(outcome) for outcome in self._inner.wait(timeout_seconds)]
        return [outcome for outcome in outcomes if outcome is not None]

    def close(self) -> None:
        """Stop all workers; queued tasks are dropped."""
        self._inner.close()

    def _ended(self, outcome: Outcome) -> Outcome | None:
        if outcome.handle in self._repairs:
            return self._mended(outcome)
        asked = self._asked.pop(outcome.handle)
        error = outcome.error
        # A plan has one level of each module; a disk that damages on and on is told.
        build = self._tasks.get(error.module_name) if isinstance(error, LevelDamagedError) else None
        if build is None or asked.num_repairs == len(self._tasks):
            return Outcome(asked.handle, outcome.value, error)
        self._note(f"{str(error).partition(' (')[0]}: building it again")
        asked.num_repairs += 1
        self._go_on(
            asked, [Calibrate(build.tokens), *(ChooseDamping(build.tokens, bits) for bits in DAMPED_BITS), build]
        )
        return None

    def _mended(self, outcome: Outcome) -> Outcome | None:
        asked, left = self._repairs.pop(outcome.handle)
        if outcome.error is not None:
            return Outcome(asked.handle, error=outcome.error)
        self._go_on(asked, left)
        return None

    def _go_on(self, asked: _Asked, steps: Sequence[Task]) -> None:
        """Take the next step of a repair, or the task itself after the last one."""
        if steps:
            self._repairs[self._inner.submit(steps[0])] = (asked, list(steps[1:]))
        else:
            self._asked[self._inner.submit(asked.task)] = asked


_: type[Executor] = Repairing
