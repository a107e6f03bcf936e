"""tightfit itself, as users run it: one job at the 3-bit size, then a warm one for every other budget.

All jobs share a store, as a user's do. The search text is the first half of what peers may read, the text of the final
selection the second. Every evaluation is paid, the final ones too, at its full number of tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.search.arena import NUM_CALIBRATION, NUM_SEARCH, SEQUENCE_LENGTH, Arena, Traced
from search.controller import Controller
from space.plan import Plan
from space.spec import JobSpec, make_spec
from storage.in_memory import MemoryStore
from storage.records import Job
from workers.pool.executor import Executor, Handle, InlineExecutor, Outcome
from workers.tasks import Evaluate, PrepareText, Task
from workers.text.text_sources import STDLIB
from workers.text.tokens import TokenSet, save_tokens

MAIN_BITS = 3.0
MAX_TRIALS = 870


class Quiet:
    """A listener that prints what a long run does."""

    def phase(self, job: Job, text: str) -> None:
        """Print a step."""
        print(f"  {job.job_id}: {text}", flush=True)

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Print how far the search is."""
        print(f"  {job.job_id}: {trials_done} trials, {metrics}", flush=True)


@dataclass
class PaidExecutor:
    """The in-process executor with the arena's text and meter."""

    arena: Arena
    tokens: TokenSet
    inner: InlineExecutor
    num_workers: int = 1

    def submit(self, task: Task) -> Handle:
        """Queue a task; text is the arena's."""
        return self.inner.submit(task)

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks."""
        return self.inner.submit_all(tasks, lane)

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Run a task; evaluations are paid."""
        if not self.inner._queue:  # noqa: SLF001 (a benchmark's view of our own class)
            return []
        handle, task = self.inner._queue[0]  # noqa: SLF001
        if isinstance(task, PrepareText):
            self.inner._queue.popleft()  # noqa: SLF001
            return [Outcome(handle, self.tokens)]
        outcomes = self.inner.wait(timeout_seconds)
        if isinstance(task, Evaluate):
            for outcome in outcomes:
                self._pay(task, outcome)
        return outcomes

    def close(self) -> None:
        """Drop what is queued."""
        self.inner.close()

    def _pay(self, task: Evaluate, outcome: Outcome) -> None:
        kl = outcome.value.sequence_kl
        self.arena.pay(len(kl) * SEQUENCE_LENGTH)
        if task.split == "search" and task.num_sequences is None:
            size = self.arena.space.weight_bytes(task.plan)
            self.arena.trace.append(Traced(self.arena.token_forwards, size, sum(kl) / len(kl)))


_: type[Executor] = PaidExecutor


def run(
    arena: Arena,
    budgets: Mapping[float, int],
    seed: int,
    num_search: int = NUM_SEARCH,
    max_trials: int | None = MAX_TRIALS,
) -> dict[float, Plan]:
    """Return the recommended plan of each budget's job, all on the arena's menu."""
    store, tokens = MemoryStore(), divided_tokens(arena, num_search)

    def make_executor(*_: Any) -> Executor:
        return PaidExecutor(arena, tokens, InlineExecutor(arena.workspace))

    controller = Controller(store, make_executor, arena.folder, Quiet())
    found: dict[float, Plan] = {}
    for bits in sorted(budgets, key=lambda b: abs(b - MAIN_BITS)):
        spec = _spec(arena, budgets[bits], seed, num_search, max_trials)
        job = store.create_job(f"bits-{bits:g}", spec)
        controller.run(job.job_id)
        found[bits] = _recommended(store, job.job_id)
    return found


def divided_tokens(arena: Arena, num_search: int = NUM_SEARCH) -> TokenSet:
    """Return the arena's calibration text, and of its pool the first sequences to search and the next to select on."""
    pool = arena.tokens.load("search")
    chosen = {
        "calibration": arena.tokens.load("calibration"),
        "search": pool[:num_search],
        "held_out": pool[num_search : num_search + NUM_SEARCH],
    }
    return save_tokens(chosen, arena.folder, f"{arena.tokens.note}, divided for tightfit")  # type: ignore[arg-type]


def _spec(arena: Arena, size_bytes: int, seed: int, num_search: int, max_trials: int | None) -> JobSpec:
    return make_spec(
        model="bundled",
        budget=f"{size_bytes}B",
        calibration=STDLIB,
        max_trials=max_trials,
        workers=1,
        seed=seed,
        sequence_length=SEQUENCE_LENGTH,
        num_samples=NUM_CALIBRATION,
        num_search_samples=num_search,
        num_held_out_samples=NUM_SEARCH,
        **asdict(arena.menu),
    )


def _recommended(store: MemoryStore, job_id: str) -> Plan:
    document = store.get_job(job_id).document
    assert document is not None and document.recommended is not None  # noqa: S101, PT018 (a job that is DONE has them)
    number = document.recommended.trial
    return next(t.plan for t in store.list_trials(job_id) if t.number == number)
