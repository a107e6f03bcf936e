"""What the controller costs: a whole job of thousands of trials on a large model, records in SQLite included.

    python -m benchmarks.trials.controller [--blocks 32] [--trials 5000] [--patience N] [--out FILE]

The model has seven modules per block with twelve levels each; workers are replaced by a formula whose time is not
counted (see benchmarks/sampler_cost.py). Everything else is the job's own: the strategy, the Optuna study, the records
and known measurements in SQLite, metrics and the front while it is searched for. The rule that a front which no longer
grows ends the search is off unless a patience is given (jobs have 2 rounds). Counted is CPU time from the first
question to the last answer; memory is the process's largest resident set, libraries included. Other work on the machine
makes CPU time longer: its load is told too.
"""

import argparse
import cProfile
import json
import os
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.sampler_cost import PER_SEQUENCE, SEQUENCES, Losses, budget_of, errors_of, make_space, resident_mib
from search.decide.observation import SENSITIVITY, Proposal
from search.decide.steps import FrontStrategy
from search.job.context import Context
from search.job.publish_front import Publisher
from search.job.search_loop import SearchLoop
from search.job.stopping import StopRule
from search.measure.known_answers import KnownAnswers, question_of
from search.measure.questions import Answerer
from search.measure.sketches import SketchBook
from search.request.prepare import Prepared
from search.study.job_study import JobStudy
from space.measurement import Measurement
from space.menu import SearchSpace
from space.spec import make_spec
from storage.job_facts import JobFacts
from storage.leases.lease import holder_name
from storage.leases.outage_retry import held_store
from storage.records import Job
from storage.sql.sql_store import SqlStore
from storage.store import Store
from workers.pool.executor import Executor, Handle, Outcome
from workers.tasks import Evaluate, Task
from workers.text.tokens import TokenSet

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "trials" / "controller.json"
_ENDLESS = 10**6
TOKENS = TokenSet("/synthetic", "synthetic", ("a", "b", "c"))


@dataclass
class FormulaExecutor:
    """Answers evaluations from a formula, one at a time, and counts the CPU seconds that this takes."""

    losses: Losses
    num_workers: int = 16
    cpu_seconds: float = 0.0
    _queue: deque[tuple[Handle, Evaluate]] = field(default_factory=deque)
    _count: int = 0

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        assert isinstance(task, Evaluate)  # noqa: S101 (nothing else is asked here)
        handle = Handle(self._count)
        self._count += 1
        self._queue.append((handle, task))
        return handle

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:  # noqa: ARG002
        """Queue tasks."""
        return [self.submit(task) for task in tasks]

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:  # noqa: ARG002 (answers are there at once)
        """Answer the next task."""
        if not self._queue:
            return []
        handle, task = self._queue.popleft()
        started = time.process_time()
        outcome = Outcome(handle, self._measure(task))
        self.cpu_seconds += time.process_time() - started
        return [outcome]

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()

    def _measure(self, task: Evaluate) -> Measurement:
        base = task.plan if task.sketch else None
        seen = self.losses.observe(Proposal(task.plan, SENSITIVITY, None, base))
        first, end = task.first_sequence, SEQUENCES
        if task.num_sequences is not None:
            end = first + task.num_sequences
        kl = list(seen.sequence_kl[first:end])
        found = Measurement.of_sequences(kl, kl, 31, 31.0 * len(kl), 0.0)
        if seen.sketch is None:
            return found
        return replace(found, sketch=seen.sketch[first * PER_SEQUENCE : end * PER_SEQUENCE])


_: type[Executor] = FormulaExecutor


class Quiet:
    """A listener that keeps the last metrics."""

    metrics: dict[str, float]

    def phase(self, job: Job, text: str) -> None:
        """Take no note."""

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:  # noqa: ARG002
        """Keep the metrics."""
        self.metrics = metrics


def make_context(store: Store, space: SearchSpace, listener: Quiet, num_trials: int) -> Context:
    """Return a running job on a space, held by a lease as every controller's is."""
    budget = budget_of(space)
    store.create_job("one", make_spec(model="synthetic", budget=f"{budget}B", max_trials=num_trials))
    lease = store.claim_job(holder_name(), "one")
    assert lease is not None  # noqa: S101 (nobody else is there)
    store, job = held_store(store, lease), store.get_job("one")
    prepared = Prepared(Path("/synthetic"), space.inventory, space, budget, 0)
    facts = JobFacts(budget_bytes=budget, smallest_bytes=space.smallest_bytes, dense_perplexity=7.0)
    store.update_job("one", facts=facts)
    return Context(store, replace(job, facts=facts), prepared, listener)


def make_loop(context: Context, executor: FormulaExecutor, folder: Path, patience: int) -> SearchLoop:
    """Return a job's search with everything that it does between two measurements."""
    space, budget = context.prepared.space, context.prepared.weight_budget
    strategy = FrontStrategy(space, errors_of(space), budget, num_sequences=SEQUENCES)
    library = KnownAnswers(
        context.store, "model", TOKENS, {"search": SEQUENCES, "held_out": SEQUENCES}, SketchBook(folder / "sketches")
    )
    study = JobStudy("front", strategy, find_sketch=lambda proposal: library.sketch(question_of(proposal)))
    publisher = Publisher(context)
    return SearchLoop(
        context,
        study,
        Answerer(library, executor, context.check_stop, lambda: None),
        StopRule(context.max_trials, patience=patience),
        lambda trials: publisher.publish_if_due(trials, study.kept_model),
    )


def run(num_blocks: int, num_trials: int, patience: int = _ENDLESS, profile: Path | None = None) -> dict[str, Any]:
    """Return what a job costs."""
    space, listener, profiler = make_space(num_blocks), Quiet(), cProfile.Profile()
    executor = FormulaExecutor(Losses(space))
    start = resident_mib()
    with TemporaryDirectory() as folder:
        store = SqlStore(f"sqlite:///{folder}/tightfit.db")
        context = make_context(store, space, listener, num_trials)
        loop = make_loop(context, executor, Path(folder), patience)
        if profile:
            profiler.enable()
        started = time.process_time()
        loop.run()
        seconds = time.process_time() - started - executor.cpu_seconds
        profiler.disable()
        done = int(listener.metrics["trials_done"])
        store.close()
    if profile:
        profiler.dump_stats(profile)
    return {
        "modules": len(space.levels),
        "levels": max(map(len, space.levels.values())),
        "trials": done,
        "cpu_ms_per_trial": round(1000 * seconds / done, 2),
        "start_mib": round(start, 1),
        "resident_mib": round(resident_mib(), 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--patience", type=int, default=_ENDLESS, help="rounds without growth of the front")
    parser.add_argument("--profile", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    result = run(arguments.blocks, arguments.trials, arguments.patience, arguments.profile)
    print(json.dumps(result, indent=2))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
