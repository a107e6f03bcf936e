"""A user's own questions: the dense model is asked before the search, every judged plan after it.

They steer nothing: plans are found and recommended by their metric on held-out text alone.
"""

from collections.abc import Sequence
from dataclasses import asdict

from search.job.context import Context
from search.measure.dispatch import require_all, run_tasks
from space.digest import digest
from space.plan import Plan
from space.results.own_score import marks_of
from storage.job_facts import JobFacts
from storage.records import Trial
from workers.pool.executor import Executor, Outcome
from workers.tasks import AskQuestions, OwnAnswers
from workers.text.own_questions import read_own_questions
from workers.text.tokens import TokenSet

_VERSION = 1
"""of how answers are found and judged"""


class OwnQuestions:
    """Asks what a job's request brought, where it brought anything."""

    def __init__(self, context: Context, executor: Executor, tokens: TokenSet) -> None:
        """Read the questions.

        Raises:
            CalibrationError: the file is gone, or no longer holds questions.

        """
        self._context, self._executor, self._tokens = context, executor, tokens
        source = context.spec.judge
        self._questions = () if source is None else read_own_questions(source)
        self._name = digest([_VERSION, list(map(asdict, self._questions))])[:16]
        self._dense: OwnAnswers | None = None

    def ask_dense(self, dense: Plan) -> None:
        """Ask the model as it is. Raises JobFailedError where it cannot be asked: no plan could be, then."""
        if not self._questions:
            return
        self._context.note(f"asking the dense model {len(self._questions)} questions of yours")
        task = AskQuestions(self._tokens, dense, self._questions)
        self._dense = require_all(self._executor, [task], check_stop=self._context.check_stop)[0]
        self._keep(dense, self._dense)

    def ask(self, trials: Sequence[Trial]) -> None:
        """Ask the plans of trials that were judged and not asked yet; one that fails is told and left out."""
        known = self._context.facts().own_answers or {}
        plans = [t.plan for t in trials if t.held_out is not None and self._key(t.plan) not in known]
        if not self._questions or not plans:
            return
        self._context.note(f"asking {len(plans)} plans {len(self._questions)} questions of yours", timed=True)

        def collect(index: int, outcome: Outcome) -> None:
            if outcome.error is not None:
                self._context.note(f"plan {plans[index].digest[:12]} is not asked: {outcome.error}")
            else:
                self._keep(plans[index], outcome.value)

        tasks = [AskQuestions(self._tokens, plan, self._questions) for plan in plans]
        run_tasks(self._executor, tasks, collect, self._context.check_stop)

    @property
    def marks(self) -> dict[str, str]:
        """Return digest of a plan -> its marks, of those that were asked these questions."""
        known = self._context.facts().own_answers or {}
        pairs = (key.split() for key in known)
        return {plan: known[f"{name} {plan}"] for name, plan in pairs if name == self._name}

    def _keep(self, plan: Plan, found: OwnAnswers) -> None:
        assert self._dense is not None  # noqa: S101 (it is asked first)
        marks = marks_of(found.is_right, found.answers, self._dense.answers)
        known = self._context.facts().own_answers or {}
        facts = JobFacts(own_answers={**known, self._key(plan): marks})
        self._context.store.update_job(self._context.job_id, facts=facts)
        self._context.spend(f"own questions to {plan.digest[:16]}", found.token_forwards)

    def _key(self, plan: Plan) -> str:
        return f"{self._name} {plan.digest}"
