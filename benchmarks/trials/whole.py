"""What the trials of a whole default search cost together, and how the search scales over workers."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena
from benchmarks.search.peers.tightfit import Quiet
from benchmarks.trials.cost import bare_forward
from benchmarks.trials.timing import cpu_seconds
from search.controller import Controller
from search.run import MakeExecutor
from space.spec import make_spec
from storage.memory import MemoryStore
from storage.records import Job, Trial
from workers.evaluate.teacher import BATCH
from workers.executor import Executor, Handle, InlineExecutor, Outcome
from workers.models.text import STDLIB
from workers.ray_pool import RayPool
from workers.tasks import Evaluate, Task, Workspace

NUM_SEARCH = 32
_EVERY = 20  # trials between two bare forwards


@dataclass
class _Timed:
    """The in-process executor with a clock on evaluations, and a bare forward now and then."""

    arena: Arena
    inner: InlineExecutor
    num_workers: int = 1
    tasks: dict[Handle, Task] = field(default_factory=dict)
    seconds: dict[Handle, float] = field(default_factory=dict)
    bare: list[float] = field(default_factory=list)

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task]) -> Sequence[Handle]:
        """Queue tasks."""
        handles = self.inner.submit_all(tasks)
        self.tasks |= dict(zip(handles, tasks, strict=True))
        return handles

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Run a task."""
        started = time.thread_time()
        outcomes = self.inner.wait(timeout_seconds)
        for outcome in outcomes:
            task = self.tasks[outcome.handle]
            if isinstance(task, Evaluate) and task.split == "search":
                self.seconds[outcome.handle] = time.thread_time() - started
                if len(self.seconds) % _EVERY == 1:
                    self.bare.append(cpu_seconds(bare_forward(self.arena, BATCH)))
        return outcomes

    def close(self) -> None:
        """Drop what is queued."""
        self.inner.close()


_: type[Executor] = _Timed


def default_search(arena: Arena) -> dict[str, Any]:
    """Return what the trials of one default search on the bundled model cost, against bare forwards of their tokens."""
    executor = _Timed(arena, InlineExecutor(arena.workspace))
    arena.teach("search")
    arena.worker.run(Evaluate(arena.tokens, next(iter(arena.space.uniform_plans()))[1], "search", BATCH))
    trials = _search(arena, lambda *_: executor, Quiet())
    token_seconds = median(executor.bare) / (BATCH * SEQUENCE_LENGTH)
    ratios, stopped_early, spent, nominal = [], [], 0.0, 0.0
    for handle, seconds in executor.seconds.items():
        task = executor.tasks[handle]
        assert isinstance(task, Evaluate)  # noqa: S101 (only those are timed)
        asked = (task.num_sequences or NUM_SEARCH - task.first_sequence) * SEQUENCE_LENGTH * token_seconds
        whole = asked if task.sketch else NUM_SEARCH * SEQUENCE_LENGTH * token_seconds
        ratios.append(seconds / asked)
        stopped_early.append(seconds / whole)
        spent, nominal = spent + seconds, nominal + asked
    return {
        "trials": len(trials),
        "evaluations": len(ratios),
        "mean_ratio": sum(ratios) / len(ratios),
        "mean_ratio_screened_against_whole_text": sum(stopped_early) / len(stopped_early),
        "ratio_of_sums": spent / nominal,
        "token_forwards": sum(t.measurement.token_forwards for t in trials if t.measurement),
    }


def scaling(arena: Arena, counts: Sequence[int] = (1, 2)) -> list[dict[str, Any]]:
    """Return, for each number of Ray workers, how long the same search takes behind its first batch.

    Start-up, levels and the dense model's answers come before it. `busy_share` is the share of the workers' time in
    which they measure: the rest is dispatch, bookkeeping, the search's own decisions, and waiting for a batch's last.
    """
    rows = []
    for count in counts:
        clock = _Clock()
        trials = _search(arena, partial(_pool, count), clock)
        seconds = time.monotonic() - clock.first
        later = [m for t in trials[clock.trials :] if (m := t.measurement)] + [t.held_out for t in trials if t.held_out]
        busy = sum(m.seconds for m in later) / (count * seconds)
        rows.append({"workers": count, "seconds": seconds, "busy_share": busy})
    return rows


def _pool(count: int, workspace: Workspace, _: int) -> Executor:
    return RayPool(workspace, count)


@dataclass
class _Clock(Quiet):
    """Knows when the first batch had ended, and how many trials it had."""

    first: float = 0.0
    trials: int = 0

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Note the first call."""
        super().progress(job, trials_done, metrics)
        if not self.first:
            self.first, self.trials = time.monotonic(), trials_done


def _search(arena: Arena, make_executor: MakeExecutor, listener: Quiet) -> Sequence[Trial]:
    store = MemoryStore()
    spec = make_spec(model="bundled", budget="3.25bpw", calibration=STDLIB, workers=1, sequence_length=SEQUENCE_LENGTH)
    job = store.create_job("default", spec)
    Controller(store, make_executor, arena.folder, listener).run(job.job_id)
    return store.list_trials(job.job_id)
