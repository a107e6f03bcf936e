"""Workers on a simulated clock: known durations, stragglers and failures, so that hundreds of them fit in a unit test.

One queue feeds all workers, as many at a time as there are; whoever is idle takes what was submitted first. Time passes
only in `wait`, to the next end. Answers come from a function, so a simulated search is a real one in all but its clock
(the idea is syne-tune's simulator backend).
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random

from space.errors import TightfitError, TrialError
from workers.pool.executor import Executor, Handle, Outcome
from workers.tasks import Task

Batch = deque[tuple[Handle, Task]]


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to tasks and workers.

    Attributes:
        spread: standard deviation of the logarithm of what a task takes, from task to task.
        slow_share: of the workers, each `slow_factor` times as slow as the others.
        straggler_share: of the tasks, each taking `slow_factor` times as long wherever it runs.
        slow_factor: how much longer.
        failure_share: of the tasks; their worker dies on the way, and the task ends with a TrialError.
        restart_seconds: until a worker that died is back.
        seed: of all draws; what happens to the n-th task is the same for any number of workers.

    """

    spread: float = 0.0
    slow_share: float = 0.0
    straggler_share: float = 0.0
    slow_factor: float = 3.0
    failure_share: float = 0.0
    restart_seconds: float = 0.0
    seed: int = 0

    def fate(self, number: int) -> tuple[float, bool]:
        """Return how many times as long as usual the n-th task takes, and whether it fails."""
        rng = Random(f"{self.seed} {number}")  # noqa: S311 (a simulation)
        times = rng.lognormvariate(0.0, self.spread)
        straggles, fails = rng.random() < self.straggler_share, rng.random() < self.failure_share
        part = rng.random() if fails else 1.0
        return times * part * (self.slow_factor if straggles else 1.0), fails

    def pace(self, worker: int, num_workers: int) -> float:
        """Return how many times as long a worker takes; slow ones are spread over all."""
        is_slow = int((worker + 1) * self.slow_share) > int(worker * self.slow_share) and num_workers > 1
        return self.slow_factor if is_slow else 1.0


@dataclass(frozen=True, order=True, slots=True)
class _Event:
    """The end of a task, or without one the return of a worker that died."""

    moment: float
    number: int
    worker: int
    task: Task | None = field(default=None, compare=False)
    batch: Batch = field(default_factory=deque, compare=False)
    fails: bool = field(default=False, compare=False)


@dataclass
class SimulatedExecutor:
    """Runs tasks on simulated workers.

    Attributes:
        answer: the value of a task; a TightfitError that it raises is the task's end.
        num_workers: how many there are.
        seconds: what a task takes, usually.
        weather: what happens to them.
        controller_seconds: that the controller takes for each end, while workers go on.
        now: simulated seconds since the beginning.
        busy_seconds: of all tasks that were begun, failed ones included.
        closed: whether the workers were stopped.

    """

    answer: Callable[[Task], object]
    num_workers: int
    seconds: Callable[[Task], float] = lambda _: 1.0
    weather: Weather = field(default_factory=Weather)
    controller_seconds: float = 0.0
    now: float = 0.0
    busy_seconds: float = 0.0
    closed: bool = False
    _count: int = 0
    _queue: deque[tuple[float, Batch]] = field(default_factory=deque)
    _idle: list[tuple[float, int]] = field(default_factory=list)
    _events: list["_Event"] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Let all workers wait."""
        self._idle = [(0.0, worker) for worker in range(self.num_workers)]

    @property
    def utilisation(self) -> float:
        """Return the share of the workers' time that went into tasks, once all of them have ended."""
        return self.busy_seconds / (self.now * self.num_workers) if self.now else 0.0

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Iterable[Task], lane: int = 0) -> Sequence[Handle]:  # noqa: ARG002 (all take the same)
        """Queue tasks for one worker, to be done in this order."""
        batch: Batch = deque()
        for task in tasks:
            batch.append((Handle(self._count), task))
            self._count += 1
        handles = [handle for handle, _ in batch]
        if self._idle:
            _, worker = heapq.heappop(self._idle)
            self._start(worker, batch, self.now)
        else:
            self._queue.append((self.now, batch))
        return handles

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Let time pass until the next end and return it; nothing where none comes in time."""
        limit = self.now + timeout_seconds
        while self._events and self._events[0].moment <= limit:
            event = heapq.heappop(self._events)
            if event.task is None:
                self._free(event.worker, event.moment)
                continue
            self.now = max(self.now, event.moment) + self.controller_seconds
            self._go_on(event)
            return [self._outcome(Handle(event.number), event.task, fails=event.fails)]
        self.now = limit if self._events else self.now
        return []

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()
        self._events.clear()
        self.closed = True

    def _go_on(self, event: "_Event") -> None:
        """Have a worker do the rest of its batch, then the next one; one that died is back later."""
        moment = event.moment + (self.weather.restart_seconds if event.fails else 0.0)
        if event.batch:
            self._start(event.worker, event.batch, moment)
        elif event.fails:
            heapq.heappush(self._events, _Event(moment, event.number, event.worker))
        else:
            self._free(event.worker, moment)

    def _free(self, worker: int, moment: float) -> None:
        if self._queue:
            submitted, batch = self._queue.popleft()
            self._start(worker, batch, max(moment, submitted))
        else:
            heapq.heappush(self._idle, (moment, worker))

    def _start(self, worker: int, batch: Batch, moment: float) -> None:
        handle, task = batch.popleft()
        times, fails = self.weather.fate(handle.number)
        seconds = self.seconds(task) * times * self.weather.pace(worker, self.num_workers)
        self.busy_seconds += seconds
        heapq.heappush(self._events, _Event(moment + seconds, handle.number, worker, task, batch, fails))

    def _outcome(self, handle: Handle, task: Task, *, fails: bool) -> Outcome:
        if fails:
            return Outcome(handle, error=TrialError(f"{type(task).__name__}: its simulated worker died"))
        try:
            return Outcome(handle, self.answer(task))
        except TightfitError as error:
            return Outcome(handle, error=error)


_: type[Executor] = SimulatedExecutor
