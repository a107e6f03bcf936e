"""What the trials of a whole default search cost together, and how the search scales over workers."""

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from statistics import fmean, median
from typing import Any

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena
from benchmarks.search.peers.tightfit import Quiet
from benchmarks.trials.cost import bare_forward
from benchmarks.trials.timing import cpu_seconds
from search.controller import Controller
from search.job.job_steps import MakeExecutor
from space.spec import make_spec
from storage.in_memory import MemoryStore
from storage.records import Job, Trial
from workers.pool.executor import Executor, Handle, InlineExecutor, Outcome
from workers.pool.ray_pool import RayPool
from workers.tasks import BATCH, Evaluate, Task, Workspace
from workers.text.text_sources import STDLIB

NUM_SEARCH = 32
_NUM_HELD_OUT = 16  # judging is no trial
_EVERY = 10  # trials between two bare forwards
_TURNS = 3  # of scaling
_NEAR = 5  # bare forwards that a trial is compared with: their median


@dataclass
class _Timed:
    """The in-process executor with a clock on evaluations: seconds of each, and of a bare forward near to it."""

    arena: Arena
    inner: InlineExecutor
    num_workers: int = 1
    tasks: dict[Handle, Task] = field(default_factory=dict)
    seconds: dict[Handle, tuple[float, float]] = field(default_factory=dict)
    bare: deque[float] = field(default_factory=partial(deque, maxlen=_NEAR))

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks."""
        handles = self.inner.submit_all(tasks, lane)
        self.tasks |= dict(zip(handles, tasks, strict=True))
        return handles

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Run a task."""
        started = time.thread_time()
        outcomes = self.inner.wait(timeout_seconds)
        seconds = time.thread_time() - started
        for outcome in outcomes:
            task = self.tasks[outcome.handle]
            if isinstance(task, Evaluate) and task.split == "search":
                if len(self.seconds) % _EVERY == 0:
                    self.bare.append(cpu_seconds(bare_forward(self.arena, BATCH)) / BATCH)
                self.seconds[outcome.handle] = seconds, median(self.bare)
        return outcomes

    def close(self) -> None:
        """Drop what is queued."""
        self.inner.close()


_: type[Executor] = _Timed


def default_search(arena: Arena) -> dict[str, Any]:
    """Return what the trials of one default search on the bundled model cost, against bare forwards.

    A trial's nominal tokens are all that it asks for, also where a known start is continued. Plans that lose stop
    early: screened ones at a quarter of the text, neighbours that decide nothing at a quarter instead of half. So each
    plan is told too, with all that was spent on it, against what it takes to its end: the whole search text, and for a
    probe as much as any of its operating point got.
    """
    executor = _Timed(arena, InlineExecutor(arena.workspace))
    arena.teach("search")
    arena.worker.run(Evaluate(arena.tokens, next(iter(arena.space.uniform_plans()))[1], "search", BATCH))
    _, trials = _search(arena, lambda *_: executor, Quiet(), NUM_SEARCH)
    found = [_Cost.of(executor.tasks[handle], *seconds) for handle, seconds in executor.seconds.items()]
    plans = _whole_costs(found, _full_lengths(trials))
    kinds = {kind: [cost for cost in found if cost.kind == kind] for kind in dict.fromkeys(c.kind for c in found)}
    spent = sum(cost.forwards for cost in found)
    return {
        "trials": len(trials),
        "evaluations": len(found),
        "mean_ratio": fmean(cost.forwards / cost.asked for cost in found),
        "plans": len(plans),
        "mean_ratio_of_plans": fmean(plans),
        "ratio_of_sums": spent / sum(cost.asked for cost in found),
        "kinds": {
            kind: {
                "evaluations": len(costs),
                "mean_ratio": fmean(cost.forwards / cost.asked for cost in costs),
                "share_of_cost": sum(cost.forwards for cost in costs) / spent,
            }
            for kind, costs in kinds.items()
        },
        "token_forwards": sum(t.measurement.token_forwards for t in trials if t.measurement),
    }


@dataclass(frozen=True)
class _Cost:
    """What an evaluation took, in bare forwards of one sequence, and how many sequences it asked for.

    Attributes:
        plan: what was measured, and whether as a probe.
        kind: what it was.
        forwards: what it took.
        asked: its sequences, those of a known start too.

    """

    plan: tuple[str, bool]
    kind: str
    forwards: float
    asked: int

    @staticmethod
    def of(task: Task, seconds: float, bare_seconds: float) -> "_Cost":
        assert isinstance(task, Evaluate)  # noqa: S101 (only those are timed)
        asked = NUM_SEARCH if task.num_sequences is None else task.first_sequence + task.num_sequences
        is_part = asked < NUM_SEARCH
        if task.sketch:
            kind = f"probes {'continued to' if task.first_sequence else 'on'} {asked} of {NUM_SEARCH} sequences"
        elif task.first_sequence:
            kind = "screened plans, measured on the rest"
        else:
            kind = f"plans screened on {asked} sequences" if is_part else "plans on the whole text"
        return _Cost((task.plan.digest, task.sketch), kind, seconds / bare_seconds, asked)


def _full_lengths(trials: Sequence[Trial]) -> dict[str, int]:
    """Return digest of each probe -> the most sequences that any probe of the same base asked for."""
    base_of = {t.plan.digest: str(base) for t in trials if (base := t.sampler_state.base)}
    most: dict[str, int] = {}
    for t in trials:
        if base := t.sampler_state.base:
            most[str(base)] = max(most.get(str(base), 0), t.sampler_state.num_sequences or NUM_SEARCH)
    return {digest: most[base] for digest, base in base_of.items()}


def _whole_costs(costs: Sequence[_Cost], full_lengths: Mapping[str, int]) -> list[float]:
    """Return, for each plan, all that was spent on it over its bare forwards to the end."""
    spent: dict[tuple[str, bool], float] = {}
    for cost in costs:
        spent[cost.plan] = spent.get(cost.plan, 0.0) + cost.forwards
    return [forwards / (full_lengths[digest] if probe else NUM_SEARCH) for (digest, probe), forwards in spent.items()]


def scaling(arena: Arena, counts: Sequence[int] = (1, 2)) -> list[dict[str, Any]]:
    """Return how long the same search takes with each number of Ray workers, on half the text, in turns.

    From the end of its first batch to the end of the job: start-up, levels and the dense model's answers come before,
    stopping the workers after. `busy_share` is the share of the workers' time in which they measure: the rest is
    dispatch, bookkeeping, the search's own decisions, and waiting for a batch's last.
    """
    return [_scaled(arena, count) for _ in range(_TURNS) for count in counts]


def _scaled(arena: Arena, count: int) -> dict[str, Any]:
    clock = _Clock()
    job, trials = _search(arena, partial(_pool, count), clock, NUM_SEARCH // 2)
    assert clock.first is not None and job.finished_at is not None  # noqa: S101, PT018 (the job is DONE)
    seconds = (job.finished_at - clock.first).total_seconds()
    later = [m for t in trials[clock.trials :] if (m := t.measurement)] + [t.held_out for t in trials if t.held_out]
    busy = sum(m.seconds for m in later) / (count * seconds)
    return {"workers": count, "seconds": seconds, "busy_share": busy}


def _pool(count: int, workspace: Workspace, _: int) -> Executor:
    return RayPool(workspace, count)


@dataclass
class _Clock(Quiet):
    """Knows when the first batch had ended, and how many trials it had."""

    first: datetime | None = None
    trials: int = 0

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Note the first call."""
        super().progress(job, trials_done, metrics)
        if self.first is None:
            self.first, self.trials = datetime.now(UTC), trials_done


def _search(arena: Arena, make_executor: MakeExecutor, listener: Quiet, num_search: int) -> tuple[Job, Sequence[Trial]]:
    store = MemoryStore()
    spec = make_spec(
        model="bundled",
        budget="3.25bpw",
        calibration=STDLIB,
        workers=1,
        sequence_length=SEQUENCE_LENGTH,
        num_search_samples=num_search,
        num_held_out_samples=_NUM_HELD_OUT,
    )
    job = store.create_job("default", spec)
    job = Controller(store, make_executor, arena.folder, listener).run(job.job_id)
    return job, store.list_trials(job.job_id)
