"""The search itself: ask, measure, record, tell, until a rule says stop."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby, takewhile

from search.decide.observation import REFINE, UNIFORM
from search.job.context import Context
from search.job.stopping import StopRule
from search.measure.known_answers import question_of
from search.measure.questions import Answer, Answerer
from search.measure.trial_records import is_known, num_new, proposal_of
from search.progress.front_progress import Progress
from search.study.job_study import Asked, JobStudy
from space.errors import JobFailedError
from space.measurement import Measurement
from storage.records import Trial, TrialState

NOTHING_LEFT = "nothing left to try: what the models would ask next was measured"
_MIN_FAILURES = 3  # trials of whole batches that fail in a row before the job does


class SearchLoop:
    """Searches with one study; resumes from what is recorded."""

    def __init__(
        self,
        context: Context,
        study: JobStudy,
        answerer: Answerer,
        stop: StopRule,
        after_batch: Callable[[Sequence[Trial]], None],
    ) -> None:
        """Remember the parts; `after_batch` gets all trials after each batch."""
        self._context, self._study, self._answerer = context, study, answerer
        self._stop, self._after_batch = stop, after_batch
        self._progress = progress_so_far(context)

    def run(self) -> None:
        """Search until a rule says stop.

        Raises:
            JobFailedError: whole batches failed.
            StopRequestedError: somebody asked the job to stop.

        """
        recorded = self._context.trials()
        self._context.reporter.enter_search(warm=any(is_known(t) for t in recorded) and not self._context.spec.refine)
        self._restore_sketches(recorded)
        waiting = self._study.replay(recorded)
        self._replay_stop(recorded)
        if waiting:
            self._finish_batch(waiting)
        while True:
            trials = self._context.trials()
            num_asked = num_new(trials)
            reason = self._stop.reason(num_asked) if trials else None  # the first batch is measured whatever the time
            asked = [] if reason else self._study.ask(self._stop.trials_left(num_asked))
            if not asked:
                self._context.note(f"search ended: {reason or NOTHING_LEFT}")
                return
            self._create(asked)
            origins = " and ".join(dict.fromkeys(a.proposal.origin for a in asked))
            self._context.note(f"measuring {len(asked)} {origins} plans", timed=True)
            self._finish_batch(asked)

    def _restore_sketches(self, trials: Sequence[Trial]) -> None:
        """Measure again the probes whose sketches are lost: they are no part of the records."""
        complete = (proposal_of(t) for t in trials if t.state is TrialState.COMPLETE and t.sampler_state.base)
        probes = [question_of(proposal) for proposal in complete]
        lost = [probe for probe in probes if self._answerer.known_answers.sketch(probe) is None]
        if lost:
            self._context.note(f"measuring {len(lost)} sensitivity plans again, whose sketches are lost")
            self._answerer.answer(lost, lambda _index, _answer: None)

    def _create(self, asked: Sequence[Asked]) -> None:
        prepared = self._context.prepared
        self._context.records.create(
            [
                Trial(
                    job_id=self._context.job_id,
                    number=a.number,
                    plan=a.proposal.plan,
                    origin=a.proposal.origin,
                    state=TrialState.WAITING,
                    size_bytes=a.weight_bytes + prepared.cache_bytes,
                    sampler_state=replace(self._study.sampler_state(a), batch=asked[0].number),
                )
                for a in asked
            ]
        )

    def _finish_batch(self, asked: Sequence[Asked]) -> None:
        measured = self._measure(asked)
        for a in asked:  # in the order of asking, so that the study never depends on who was faster
            self._study.tell(a, measured.get(a.number))
        trials = self._context.trials()
        _check_failures(trials)
        metrics = self._note_batch(trials)
        self._context.reporter.found(metrics)
        self._context.listener.progress(self._context.job, len(trials), metrics)
        self._after_batch(trials)

    def _measure(self, asked: Sequence[Asked]) -> dict[int, Measurement]:
        """Measure a batch, recording each end as it comes; return measurements by trial number."""
        records = self._context.records
        measured: dict[int, Measurement] = {}

        def ended(index: int, answer: Answer) -> None:
            number = asked[index].number
            if answer.measurement is None:
                records.finish(number, TrialState.FAILED, reason=str(answer.error))
            else:
                records.finish(number, TrialState.COMPLETE, answer.measurement, known=answer.news)
                measured[number] = answer.measurement
                self._context.reporter.measured(answer.measurement.token_forwards)

        is_first = any(a.proposal.origin == UNIFORM for a in asked)  # without uniform plans there is no front
        questions = [question_of(a.proposal) for a in asked]
        left = self._answerer.answer(questions, ended, lambda: is_first or not self._stop.time_is_over)
        for index in left:
            records.finish(asked[index].number, TrialState.STOPPED, reason=self._stop.time_reason)
        return measured

    def _note_batch(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Tell the stop rule about the last batch of these trials; return their metrics."""
        self._progress.add(trials[self._progress.num_trials :])
        metrics = self._progress.metrics()
        self._stop.note_batch(metrics.get("hypervolume", 0.0), is_refinement=trials[-1].origin == REFINE)
        return metrics

    def _replay_stop(self, trials: Sequence[Trial]) -> None:
        """Tell the stop rule about every batch that had ended before, so that a resumed search stops where it would."""
        for first, batch in groupby(trials, key=lambda t: t.sampler_state.batch):
            ended = list(batch)
            if first is not None and all(t.state.is_finished for t in ended):
                self._note_batch(trials[: ended[-1].number + 1])


def progress_so_far(context: Context, trials: Sequence[Trial] = ()) -> Progress:
    """Return how far a search is after some trials."""
    prepared = context.prepared
    progress = Progress(prepared.budget_bytes, prepared.space.smallest_bytes + prepared.cache_bytes)
    progress.add(trials)
    return progress


def _check_failures(trials: Sequence[Trial]) -> None:
    """Fail the job where the whole last batch failed, and enough trials did in a row to blame more than a plan."""
    failed = list(takewhile(lambda t: t.state is TrialState.FAILED, reversed(trials)))
    batch = list(takewhile(lambda t: t.sampler_state.batch == trials[-1].sampler_state.batch, reversed(trials)))
    if len(failed) >= max(len(batch), _MIN_FAILURES):
        raise JobFailedError(f"The last {len(failed)} trials all failed; the last one: {failed[0].reason}")
