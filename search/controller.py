"""One job from QUEUED to its end. The only writer of its records; what is recorded is recorded before it is told."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

from search.contenders import build_document, choose_contenders, whole_text_trials
from search.dispatch import StopRequestedError, require_all, run_tasks
from search.evaluation import evaluation_digest, required_levels, text_request
from search.ledger import Asked, Ledger
from search.prepare import Prepared, prepare
from search.progress import metrics_of
from search.sampler import PlanCodec, make_sampler
from search.stopping import StopRule
from search.strategy import REFINE, FrontStrategy
from space.document import FrontDocument
from space.errors import JobFailedError, TightfitError
from space.measurement import Measurement
from space.menu import SearchSpace
from storage.records import Job, JobState, Trial, TrialState
from storage.store import Store
from workers.executor import Executor, Outcome
from workers.models.files import model_digest
from workers.models.tokens import TokenSet
from workers.tasks import BuildLevels, Calibrate, Evaluate, LevelRecord, PrepareText, Teach, Workspace

MakeExecutor = Callable[[Workspace, int], Executor]
_BATCH = "batch"  # in a trial's sampler_state: the number of the first trial that was asked with it


class Listener(Protocol):
    """Who is told what a job does, as it does it."""

    def phase(self, job: Job, text: str) -> None:
        """Take note of a step."""

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Take note of the state of the search after a batch."""


class Controller:
    """Runs jobs of one store with one kind of executor."""

    def __init__(self, store: Store, make_executor: MakeExecutor, cache_folder: Path, listener: Listener) -> None:
        """Remember the parts."""
        self._store, self._make_executor = store, make_executor
        self._cache_folder, self._listener = cache_folder, listener

    def run(self, job_id: str) -> Job:
        """Run a QUEUED job to its end and return it: DONE, or CANCELLED with the front so far.

        Raises:
            TightfitError: the job FAILED; the error is recorded with it.

        """
        job = self._store.set_job_state(job_id, JobState.RUNNING)
        run = None
        try:
            run = _Run(self._store, job, self._listener, self._cache_folder)
            run.go(self._make_executor)
            return self._store.set_job_state(job_id, JobState.DONE)
        except StopRequestedError:
            return self._cancelled(job_id, run)
        except KeyboardInterrupt:
            self._cancelled(job_id, run)
            raise
        except TightfitError as error:
            self._store.set_job_state(job_id, JobState.FAILED, str(error))
            raise
        except Exception as error:
            self._store.set_job_state(job_id, JobState.FAILED, repr(error))
            raise
        finally:
            if run is not None:
                run.close()

    def _cancelled(self, job_id: str, run: "_Run | None") -> Job:
        job = self._store.set_job_state(job_id, JobState.CANCELLED)
        if run is not None:
            run.publish(job)
        return self._store.get_job(job_id)


class _Run:
    """One run of one job: everything it needs, made step by step."""

    def __init__(self, store: Store, job: Job, listener: Listener, cache_folder: Path) -> None:
        self._store, self._job, self._listener = store, job, listener
        self._started = time.monotonic()
        self._stop = StopRule(job.spec.max_trials, job.spec.max_minutes)
        self._executor: Executor | None = None
        self._note("reading the model")
        self._prepared: Prepared = prepare(job.spec)
        digest_ = model_digest(self._prepared.folder)
        self._workspace = Workspace(
            str(self._prepared.folder), str(cache_folder / digest_[:16]), digest_, self._prepared.inventory
        )
        self._dense_perplexity: float = job.facts.get("dense_perplexity", 0.0)

    def close(self) -> None:
        if self._executor is not None:
            self._executor.close()

    def go(self, make_executor: MakeExecutor) -> None:
        """Take all steps of the job."""
        spec = self._job.spec
        self._note(f"starting {spec.workers} workers")
        self._executor = executor = make_executor(self._workspace, spec.workers)
        tokens = self._prepare_text(executor)
        space, errors = self._build_levels(executor, tokens)
        codec = PlanCodec(space)
        strategy = FrontStrategy(
            space, errors, self._prepared.weight_budget, seed=spec.seed, max_trials=spec.max_trials
        )
        make = partial(make_sampler, spec.sampler, strategy, codec)
        ledger = Ledger(make, codec, space, self._prepared.weight_budget)
        self._search(executor, ledger, tokens, space)
        self._judge(executor, tokens)
        self.publish(replace(self._job, state=JobState.DONE))

    def publish(self, job: Job) -> None:
        """Record the front as far as it is known, under the state that the job has or is about to enter."""
        trials = self._store.list_trials(job.job_id)
        if any(t.measurement for t in trials):
            self._store.update_job(job.job_id, document=self._document(job, trials))

    def _document(self, job: Job, trials: Sequence[Trial]) -> FrontDocument:
        seconds = time.monotonic() - self._started
        return build_document(job, self._prepared, trials, self._dense_perplexity, seconds)

    def _note(self, text: str) -> None:
        self._store.update_job(self._job.job_id, phase=text)
        self._listener.phase(self._job, text)

    def _check_stop(self) -> None:
        if self._store.get_job(self._job.job_id).cancel_requested:
            raise StopRequestedError

    def _prepare_text(self, executor: Executor) -> TokenSet:
        spec = self._job.spec
        self._note("reading text" if spec.calibration else "sampling text from the model itself")
        tokens: TokenSet = require_all(executor, [PrepareText(text_request(spec))], check_stop=self._check_stop)[0]
        self._note(f"calibrating ({tokens.note})")
        teach = [Teach(tokens, "search"), Teach(tokens, "held_out")]
        answers = require_all(executor, [Calibrate(tokens), *teach], check_stop=self._check_stop)
        self._dense_perplexity = answers[2]
        facts = {
            "model_digest": self._workspace.model_digest,
            "cache_folder": self._workspace.cache_folder,
            "tokens": {"path": tokens.path, "digest": tokens.digest, "note": tokens.note},
            "dense_perplexity": self._dense_perplexity,
        }
        self._store.update_job(self._job.job_id, facts=facts)
        return tokens

    def _build_levels(self, executor: Executor, tokens: TokenSet) -> tuple[SearchSpace, dict[str, Any]]:
        """Build all levels; return the space without dominated ones and each level's output error."""
        space = self._prepared.space
        tasks = [
            BuildLevels(tokens, name, tuple(sizes.items()), required_levels(space, name))
            for name, sizes in space.sizes.items()
        ]
        total = len(tasks)
        answers: list[tuple[LevelRecord, ...]] = require_all(
            executor, tasks, lambda done: self._level_progress(done, total), self._check_stop
        )
        by_name = {task.module_name: records for task, records in zip(tasks, answers, strict=True)}
        kept = space.restricted({name: [r.level for r in records] for name, records in by_name.items()})
        count = sum(map(len, answers))
        self._note(f"{count} useful levels of {sum(map(len, space.levels.values()))} for {total} modules")
        return kept, {name: {r.level: r.output_error for r in records} for name, records in by_name.items()}

    def _level_progress(self, done: int, total: int) -> None:
        if done % max(1, total // 8) == 0:
            self._note(f"building levels, {done} of {total} modules")

    def _search(self, executor: Executor, ledger: Ledger, tokens: TokenSet, space: SearchSpace) -> None:
        """Ask, measure, record, tell, until a rule says stop."""
        recorded = self._store.list_trials(self._job.job_id)
        waiting = ledger.replay(recorded)
        self._replay_stop(recorded)
        if waiting:
            self._finish_batch(executor, ledger, tokens, waiting)
        while True:
            trials = self._store.list_trials(self._job.job_id)
            reason = self._stop.reason(len(trials))
            asked = [] if reason else ledger.ask(self._job.spec.max_trials - len(trials))
            if not asked:
                self._note(f"search ended: {reason or 'nothing left to try'}")
                return
            self._create(ledger, asked, space)
            self._note(f"measuring {len(asked)} {asked[0].proposal.origin} plans")
            self._finish_batch(executor, ledger, tokens, asked)

    def _create(self, ledger: Ledger, asked: Sequence[Asked], space: SearchSpace) -> None:
        cache = self._prepared.cache_bytes
        self._store.create_trials(
            [
                Trial(
                    job_id=self._job.job_id,
                    number=a.number,
                    plan=a.proposal.plan,
                    origin=a.proposal.origin,
                    state=TrialState.WAITING,
                    size_bytes=space.weight_bytes(a.proposal.plan) + cache,
                    sampler_state={**ledger.sampler_state(a), _BATCH: asked[0].number},
                )
                for a in asked
            ]
        )

    def _finish_batch(self, executor: Executor, ledger: Ledger, tokens: TokenSet, asked: Sequence[Asked]) -> None:
        measured = self._measure(executor, tokens, asked)
        for a in asked:  # in the order of asking, so that the study never depends on who was faster
            ledger.tell(a, self._prepared.space.weight_bytes(a.proposal.plan), measured.get(a.number))
        trials = self._store.list_trials(self._job.job_id)
        metrics = self._note_batch(trials)
        self._listener.progress(self._job, len(trials), metrics)

    def _note_batch(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Tell the stop rule about the last batch of these trials; return their metrics."""
        metrics = self._metrics(trials)
        self._stop.note_batch(metrics.get("hypervolume", 0.0), is_refinement=trials[-1].origin == REFINE)
        return metrics

    def _replay_stop(self, trials: Sequence[Trial]) -> None:
        """Tell the stop rule about every batch that had ended before, so that a resumed search stops where it would."""
        for first, batch in groupby(trials, key=lambda t: t.sampler_state.get(_BATCH)):
            ended = list(batch)
            if first is not None and all(t.state.is_finished for t in ended):
                self._note_batch(trials[: ended[-1].number + 1])

    def _measure(self, executor: Executor, tokens: TokenSet, asked: Sequence[Asked]) -> dict[int, float]:
        """Measure a batch, recording each end as it comes; return KL by trial number."""
        kl: dict[int, float] = {}
        unknown: list[tuple[Asked, Evaluate]] = []
        for a in asked:
            task = Evaluate(tokens, a.proposal.plan, "search", a.proposal.num_sequences, a.proposal.base)
            known = self._store.find_measurement(a.proposal.plan, self._evaluation_digest(task))
            if known is None:
                unknown.append((a, task))
            else:
                self._store.finish_trial(self._job.job_id, a.number, TrialState.COMPLETE, known)
                kl[a.number] = known.kl_divergence

        def collect(index: int, outcome: Outcome) -> None:
            a, task = unknown[index]
            if outcome.error is not None:
                self._store.finish_trial(self._job.job_id, a.number, TrialState.FAILED, reason=str(outcome.error))
                return
            measurement: Measurement = outcome.value
            self._store.finish_trial(self._job.job_id, a.number, TrialState.COMPLETE, measurement)
            self._store.put_measurement(a.proposal.plan, self._evaluation_digest(task), measurement)
            kl[a.number] = measurement.kl_divergence

        run_tasks(executor, [task for _, task in unknown], collect, self._check_stop)
        if unknown and not kl:
            reasons = [t.reason for t in self._store.list_trials(self._job.job_id) if t.reason]
            raise JobFailedError(f"All {len(unknown)} trials of a batch failed; the last one: {reasons[-1]}")
        return kl

    def _judge(self, executor: Executor, tokens: TokenSet) -> None:
        """Measure the contenders and the uniform plans on held-out text."""
        trials = self._store.list_trials(self._job.job_id)
        uniform = {plan.digest for _, plan in self._prepared.space.uniform_plans()}
        chosen = choose_contenders(trials, uniform, self._prepared.budget_bytes)
        self._note(f"judging {len(chosen)} plans on held-out text")
        tasks = [Evaluate(tokens, t.plan, "held_out") for t in chosen]
        known = [
            self._store.find_measurement(t.plan, self._evaluation_digest(e)) for t, e in zip(chosen, tasks, strict=True)
        ]
        missing = [i for i, m in enumerate(known) if m is None]

        def keep(number: int, measurement: Measurement) -> None:
            index = missing[number]
            self._store.put_measurement(chosen[index].plan, self._evaluation_digest(tasks[index]), measurement)
            known[index] = measurement

        require_all(executor, [tasks[i] for i in missing], check_stop=self._check_stop, keep=keep)
        for trial, measurement in zip(chosen, known, strict=True):
            if measurement is not None:
                self._store.set_held_out(self._job.job_id, trial.number, measurement)

    def _metrics(self, trials: Sequence[Trial]) -> dict[str, float]:
        usable = whole_text_trials(trials)
        points = [(float(t.size_bytes), t.measurement.kl_divergence) for t in usable if t.measurement]
        uniform = {plan.digest for _, plan in self._prepared.space.uniform_plans()}
        anchors = [p for t, p in zip(usable, points, strict=True) if t.plan.digest in uniform]
        reference = (max(size for size, _ in anchors), max(kl for _, kl in anchors)) if anchors else None
        smallest = self._prepared.space.smallest_bytes + self._prepared.cache_bytes
        metrics = metrics_of(points, reference, smallest, self._prepared.budget_bytes)
        return {"trials_done": float(len(trials)), **metrics}

    def _evaluation_digest(self, task: Evaluate) -> str:
        return evaluation_digest(self._workspace.model_digest, task.tokens, task.split, task.num_sequences)
