"""The last step of a search: its contenders, measured on text that it never saw."""

from dataclasses import replace

from search.contenders import choose_contenders
from search.context import Context
from search.dispatch import job_error
from search.library import Question
from search.measuring import Answer, Measuring
from search.phases import JUDGE
from space.errors import JobFailedError, TrialError
from space.measurement import Measurement
from storage.records import Asking, Trial

_PAID = "judged"  # in a job's facts: trial number -> token forwards, of what it measured before it was interrupted


def judge(context: Context, measuring: Measuring) -> None:
    """Measure the contenders and the guards on held-out text; all are recorded together, once all are measured.

    One whose worker fails is left out and told, as trials are; without a uniform plan nothing could be promised.

    Raises:
        JobFailedError: there is nothing to judge, or a uniform plan could not be measured.

    """
    trials = context.trials()
    chosen = choose_contenders(trials, context.uniform_digests, context.prepared.budget_bytes)
    if not chosen:
        reason = next((t.reason for t in reversed(trials) if t.reason), "nothing was tried")
        raise JobFailedError(f"No plan was measured on the whole search text; the last trial: {reason}")
    context.reporter.enter(JUDGE)
    context.note(f"judging {len(chosen)} plans on held-out text", timed=True)
    todo = [t for t in chosen if t.held_out is None]
    found = _measure(context, measuring, todo)
    for trial, measurement in zip(todo, found, strict=True):
        if measurement is not None:
            context.records.hold_out(trial.number, measurement)


def _measure(context: Context, measuring: Measuring, trials: list[Trial]) -> list[Measurement | None]:
    """Return the trials' measurements; None where the worker of one that is no uniform plan failed."""
    paid: dict[str, float] = context.facts().get(_PAID, {})
    questions = [Question(t.plan, "held_out", asking=Asking(t.origin)) for t in trials]
    found: dict[int, Measurement] = {}

    def ended(index: int, answer: Answer) -> None:
        if answer.measurement is None:
            assert answer.error is not None  # noqa: S101 (one of them is there)
            what = f"Trial {trials[index].number} on held-out text"
            if not isinstance(answer.error, TrialError) or trials[index].plan.digest in context.uniform_digests:
                raise job_error(what, answer.error) from answer.error
            context.note(f"{what} is left out: {answer.error}")
            return
        number = str(trials[index].number)
        if answer.news is not None:
            paid[number] = answer.measurement.token_forwards
            context.store.update_job(context.job_id, facts={_PAID: paid})
            context.store.put_measurement(answer.news)
        found[index] = replace(answer.measurement, token_forwards=paid.get(number, 0.0))
        context.reporter.advance(len(found) / len(trials))

    measuring.answer(questions, ended)
    return [found.get(index) for index in range(len(trials))]
