"""The last step of a search: its front, and what it is compared with, measured on text that it never saw.

All look at the first sequences; plans that lose there measurably to one that is no larger stop, and the others go on to
all of the text. The plans that the front needs most come first, and judging takes at most a third of the job's work.
"""

from collections.abc import Sequence
from dataclasses import replace

from search.decide.contenders import choose_contenders
from search.job.context import Context
from search.measure.dispatch import job_error
from search.measure.known_answers import Question
from search.measure.questions import Answer, Answerer
from search.progress.phases import JUDGE
from space.errors import JobFailedError, TrialError
from space.measurement import Measurement
from space.results.front import paired_interval
from storage.job_facts import JobFacts
from storage.records import Asking, Trial

FIRST_LOOK = 16
"""held-out sequences on which a plan may lose"""
_SHARE = 1 / 2  # of what was spent on search text, which is a third of both
_PART_SHARE = 0.5  # of a sequence's cost, for what is measured on a part of the text
_SURVIVE = 0.7  # of the plans that have a first look, about
Found = dict[int, Measurement]
"""trial number -> measurement"""


def judge(context: Context, answerer: Answerer) -> None:
    """Measure the contenders and the guards on held-out text; all are recorded together, once all are measured.

    One whose worker fails is left out and told, as trials are; without a uniform plan nothing could be promised.

    Raises:
        JobFailedError: there is nothing to judge, or a uniform plan could not be measured.

    """
    trials = context.trials()
    chosen = choose_contenders(trials, context.reference_digests, context.prepared.budget_bytes)
    if not chosen:
        reason = next((t.reason for t in reversed(trials) if t.reason), "nothing was tried")
        raise JobFailedError(f"No plan was measured on the whole search text; the last trial: {reason}")
    context.reporter.enter(JUDGE)
    bench = _Bench(context, answerer)
    looked = bench.affordable(chosen, 1.0 if bench.first == 1 else bench.first + _SURVIVE * (1 - bench.first))
    left_out = len(chosen) - len(looked)
    over = f" ({left_out} more would be over a third of the work)" if left_out else ""
    context.note(f"judging {len(looked)} plans on held-out text{over}", timed=True)
    for trial, measurement in bench.judge(looked):
        context.records.hold_out(trial.number, measurement)


class _Bench:
    """Measures plans on held-out text in two looks, within what judging may take.

    Attributes:
        first: share of the text that the first look takes.

    """

    def __init__(self, context: Context, answerer: Answerer) -> None:
        self._context, self._answerer = context, answerer
        self._count = answerer.known_answers.count("held_out")
        self.first = min(FIRST_LOOK / self._count, 1.0)
        self._allowed = _SHARE * sum(map(_sequences, context.trials())) / self._count  # in plans on all text
        self._paid: dict[str, float] = dict(context.facts().judged or {})

    def affordable(self, trials: Sequence[Trial], each: float) -> list[Trial]:
        """Return as many of some trials as judging may take, in their order, at a cost of so many plans for each.

        Those that are judged already count too, so that whoever asks again asks for the same. The best plan within the
        budget and what it is compared with are never left out.
        """
        count, compared = int(self._allowed / each), self._context.reference_digests
        return [t for n, t in enumerate(trials) if n < max(1, count) or t.plan.digest in compared]

    def judge(self, trials: Sequence[Trial]) -> list[tuple[Trial, Measurement]]:
        """Return the new measurements of the trials that are not beaten at first look."""
        if self.first < 1:
            trials = self._second_look(trials)
        todo = [t for t in trials if t.held_out is None]
        found = self._measure(todo, None)
        return [(t, found[t.number]) for t in todo if t.number in found]

    def _second_look(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials that are worth all of the text, and record to what the others lost."""
        found = self._measure([t for t in trials if t.held_out is None], FIRST_LOOK)
        found |= {t.number: t.held_out for t in trials if t.held_out is not None}
        looked = [t for t in trials if t.number in found]
        may_lose = [t for t in looked[1:] if t.plan.digest not in self._context.reference_digests]
        lost = {t.number: winner for t in may_lose if (winner := _beaten_by(t, looked, found)) is not None}
        self._context.store.update_job(
            self._context.job_id, facts=JobFacts(lost_on_held_out={str(n): w for n, w in lost.items()})
        )
        self._allowed -= self.first * len(looked)
        left = self.affordable([t for t in looked if t.number not in lost], 1 - self.first)
        for number in {t.number for t in looked if t.held_out is None} - {t.number for t in left}:
            self._context.spend(f"trial {number} on held-out text", self._paid.get(str(number), 0.0))
        self._context.note(
            f"judging {len(left)} of them on all of it; {len(lost)} lose measurably on {FIRST_LOOK} sequences",
            timed=True,
        )
        return left

    def _measure(self, trials: Sequence[Trial], num_sequences: int | None) -> Found:
        """Return the measurements; a trial whose worker failed has none, which a uniform plan must have."""
        questions = [Question(t.plan, "held_out", num_sequences, Asking(t.origin)) for t in trials]
        found: Found = {}

        def ended(index: int, answer: Answer) -> None:
            number = trials[index].number
            if answer.measurement is None:
                self._leave_out(trials[index], answer)
                return
            if answer.news is not None:
                self._paid[str(number)] = self._paid.get(str(number), 0.0) + answer.measurement.token_forwards
                self._context.store.update_job(self._context.job_id, facts=JobFacts(judged=dict(self._paid)))
                self._context.store.put_measurement(answer.news)
            found[number] = replace(answer.measurement, token_forwards=self._paid.get(str(number), 0.0))
            before, part = (0.0, self.first) if num_sequences is not None else (self.first % 1, 1 - self.first % 1)
            self._context.reporter.advance(before + part * len(found) / len(trials))

        self._answerer.answer(questions, ended)
        return found

    def _leave_out(self, trial: Trial, answer: Answer) -> None:
        assert answer.error is not None  # noqa: S101 (it has no measurement)
        what = f"Trial {trial.number} on held-out text"
        if not isinstance(answer.error, TrialError) or trial.plan.digest in self._context.uniform_digests:
            raise job_error(what, answer.error) from answer.error
        self._context.note(f"{what} is left out: {answer.error}")


def _sequences(trial: Trial) -> float:
    """Return what a trial costs, about, in sequences: probes and continued plans share blocks with others.

    It is the same for any number of workers, and for whoever measured it first.
    """
    if trial.measurement is None:
        return 0.0
    share = _PART_SHARE if trial.sampler_state.num_sequences else 1.0
    return share * len(trial.measurement.sequence_kl)


def _beaten_by(trial: Trial, rivals: Sequence[Trial], found: Found) -> int | None:
    """Return the number of the best trial that is no larger, where this one is measurably worse at first look."""
    kl = {t.number: found[t.number].sequence_kl[:FIRST_LOOK] for t in rivals if t.number in found}
    smaller = [t.number for t in rivals if t.size_bytes <= trial.size_bytes and t.number in kl and t != trial]
    if trial.number not in kl or not smaller:
        return None
    best = min(smaller, key=lambda number: sum(kl[number]))
    low, _ = paired_interval(kl[trial.number], kl[best])
    return best if low > 0 else None
