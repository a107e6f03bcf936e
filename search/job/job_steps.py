"""One run of one job, step by step: text and levels, what earlier jobs know, search, held-out text, front."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from search.decide.additive_model import Errors
from search.decide.steps import FrontStrategy
from search.job.ask_own_questions import OwnQuestions
from search.job.choose_strategy import choose_strategy, coarse_advice
from search.job.context import Context, Listener
from search.job.earlier_jobs import Earlier
from search.job.held_out import judge
from search.job.job_device import device_of_job
from search.job.publish_front import Publisher
from search.job.resume_check import check_continuity, check_same_model, kept_text, methods_of, recorded_text
from search.job.search_loop import SearchLoop, progress_so_far
from search.job.stopping import StopRule
from search.job.text_and_levels import Text, TextAndLevels
from search.measure.answer_keys import count_sequences
from search.measure.dispatch import LazyExecutor
from search.measure.known_answers import KnownAnswers, question_of
from search.measure.questions import Answerer
from search.measure.rebuild_damaged import Repairing
from search.measure.sketches import SketchBook
from search.measure.trial_records import num_new
from search.request.prepare import prepare
from search.study.job_study import JobStudy
from space.budget import parse_bytes
from space.menu import SearchSpace
from space.spec import JobSpec
from storage.job_facts import JobFacts, KeptLosses
from storage.records import Job, JobState
from storage.store import Store
from workers.devices import computed_digest
from workers.models.model_files import model_digest
from workers.pool.cache_locks import use
from workers.pool.executor import Executor, Placed
from workers.pool.node_caches import cluster_address
from workers.run.memory_limits import share_bytes, told
from workers.tasks import Workspace
from workers.text.tokens import TokenSet

MakeExecutor = Callable[[Workspace, int], Executor]
_FAR = "No earlier job searched near this budget; submitting it again with --refine does, and may find a better plan."


class Run:
    """One run of one job: everything it needs, made step by step."""

    def __init__(
        self, store: Store, job: Job, listener: Listener, cache_folder: Path, make_executor: MakeExecutor
    ) -> None:
        """Read the model; no worker starts before there is something for it to do."""
        store.update_job(job.job_id, phase="reading the model")
        listener.phase(job, "reading the model")
        self._context = Context(store, job, prepare(job.spec, cache_folder, remember=True), listener)
        self._stop = StopRule(self._context.max_trials, job.spec.max_minutes)
        self._publisher = Publisher(self._context)
        prepared = self._context.prepared
        content = model_digest(prepared.folder)
        device = device_of_job(job.facts.device)
        self._computed = computed_digest(content, device)
        cache, memory = str(cache_folder / self._computed[:16]), _worker_memory(job.spec)
        self._workspace = Workspace(
            str(prepared.folder),
            cache,
            content,
            prepared.inventory,
            memory,
            device,
            sequence_length=job.spec.sequence_length,
        )
        self._in_use = use(Path(self._workspace.cache_folder))
        self._executor = Repairing(
            LazyExecutor(partial(self._start, make_executor), job.spec.workers), self._context.note
        )
        self._ground = TextAndLevels(self._context, self._workspace, self._executor)
        self._study: JobStudy | None = None

    def close(self) -> None:
        """Stop the workers."""
        self._executor.close()
        self._in_use.close()

    def go(self) -> None:
        """Take all steps of the job."""
        context = self._context
        check_same_model(context, self._workspace.model_digest)
        cache = Path(self._workspace.cache_folder)
        text = recorded_text(context, cache) or self._ground.known_text() or self._ground.make_text()
        check_continuity(context, text.tokens)
        self._keep_facts(text)
        self._executor.learn(self._ground.level_tasks(text.tokens))
        own = OwnQuestions(context, self._executor, text.tokens)
        own.ask_dense(context.prepared.dense_plan)
        records = self._ground.known_levels(text.tokens)
        space, errors = self._ground.useful_space(self._ground.make_levels(text.tokens, records))
        known_answers = self._known_answers(text.tokens)
        is_warm = self._start_warm(Earlier(space, known_answers))
        before = partial(self._ground.teach, text.tokens)
        answerer = Answerer(known_answers, self._executor, context.check_stop, before)
        whole = self._whole_strategy(space, errors, known_answers, is_warm=is_warm and not context.spec.refine)
        strategy = choose_strategy(whole, context, self._ground, text.tokens, self._stop)
        self._study = self._make_study(strategy, known_answers)
        SearchLoop(
            context,
            self._study,
            answerer,
            self._stop,
            lambda trials: self._publisher.publish_if_due(trials, self._model),
        ).run()
        self._publisher.advise(coarse_advice(strategy, context, num_new(context.trials())))
        judge(context, answerer)
        own.ask(context.trials())
        self._publisher.own_marks = own.marks
        self.publish(JobState.DONE)

    def publish(self, state: JobState) -> None:
        """Record the front as far as it is known, under the state that the job has or is about to enter."""
        self._publisher.publish(state, self._context.trials(), self._model())
        if state is JobState.DONE:
            self._context.reporter.ended()

    def report(self) -> None:
        """Bring the job's summary up to date."""
        self._context.reporter.write()

    def _start(self, make_executor: MakeExecutor) -> Executor:
        how = told(self._workspace)
        self._context.note(f"starting workers; {how}")
        executor = make_executor(self._workspace, self._context.spec.workers)
        if isinstance(executor, Placed):
            self._keep_places(executor.places)
        return executor

    def _keep_places(self, places: Mapping[str, str]) -> None:
        """Record and tell where each node of a cluster keeps levels."""
        self._context.store.update_job(self._context.job_id, facts=JobFacts(nodes=places))
        for node, place in places.items():
            self._context.note(f"{node} keeps levels in {place}")

    def _keep_facts(self, text: Text) -> None:
        prepared = self._context.prepared
        self._publisher.dense_perplexity, self._publisher.experts = text.dense_perplexity, text.experts
        facts = JobFacts(
            model_digest=self._workspace.model_digest,
            inventory=prepared.inventory,
            cache_folder=self._workspace.cache_folder,
            device=self._workspace.device,
            tokens=kept_text(text.tokens),
            dense_perplexity=text.dense_perplexity,
            experts=text.experts,
            methods=methods_of(prepared.space),
            budget_bytes=prepared.budget_bytes,
            smallest_bytes=prepared.space.smallest_bytes + prepared.cache_bytes,
        )
        self._context.store.update_job(self._context.job_id, facts=facts)

    def _known_answers(self, tokens: TokenSet) -> KnownAnswers:
        spec = self._context.spec
        return KnownAnswers(
            self._context.store,
            self._computed,
            tokens,
            {
                "search": count_sequences(tokens, "search", spec.num_search_samples),
                "held_out": count_sequences(tokens, "held_out", spec.num_held_out_samples),
            },
            SketchBook(Path(self._workspace.cache_folder) / "sketches"),
        )

    def _start_warm(self, earlier: Earlier) -> bool:
        """Record what a finished search of earlier jobs found and publish its front; tell whether there was one."""
        context = self._context
        if context.trials():  # resumed: it began as it began
            return bool(context.facts().warm)
        is_warm = context.spec.sampler == "front" and earlier.is_enough
        context.store.update_job(context.job_id, facts=JobFacts(warm=is_warm))
        if is_warm:
            self._advise(earlier)
            known = earlier.trials(context.job_id, context.prepared.cache_bytes)
            context.records.create(known)
            self._publisher.publish(JobState.RUNNING, known)
            context.note(f"a first front, from {len(known)} measurements of earlier jobs")
            context.listener.progress(context.job, len(known), progress_so_far(context, known).metrics())
        return is_warm

    def _advise(self, earlier: Earlier) -> None:
        """Say so where no earlier job looked around this budget and this one will not either."""
        context = self._context
        if not context.spec.refine and not earlier.is_near(context.prepared.weight_budget):
            self._publisher.advise(_FAR)

    def _whole_strategy(
        self, space: SearchSpace, errors: Errors, known_answers: KnownAnswers, *, is_warm: bool
    ) -> FrontStrategy:
        return FrontStrategy(
            space,
            errors,
            self._context.prepared.weight_budget,
            num_sequences=known_answers.count("search"),
            warm=is_warm,
            seed=self._context.spec.seed,
        )

    def _make_study(self, strategy: FrontStrategy, known_answers: KnownAnswers) -> JobStudy:
        name, cache_bytes = self._context.spec.sampler, self._context.prepared.cache_bytes
        return JobStudy(name, strategy, cache_bytes, lambda proposal: known_answers.sketch(question_of(proposal)))

    def _model(self) -> KeptLosses | None:
        """Return what the search learnt about each module, where its sampler tells."""
        return self._study.kept_model() if self._study is not None else None


def _worker_memory(spec: JobSpec) -> int | None:
    """Return the bytes that each worker may take: as asked, or a share of this machine; None: what its machine has."""
    if spec.worker_memory is not None:
        return parse_bytes(spec.worker_memory)
    return None if cluster_address() else share_bytes(spec.workers)
