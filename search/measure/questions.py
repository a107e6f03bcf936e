"""Answering questions about plans: from known answers, by continuing a known start, or by a worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from search.measure.dispatch import run_tasks
from search.measure.known_answers import KnownAnswers, Question
from search.measure.shared_prefixes import in_batches
from space.errors import TightfitError
from space.measurement import Measurement
from storage.records import Known
from workers.pool.executor import Executor, Outcome
from workers.tasks import Evaluate


@dataclass(frozen=True, slots=True)
class Answer:
    """The end of a question.

    Attributes:
        measurement: it cost what is newly spent.
        error: why there is none.
        news: the same as all jobs shall find it, where it was not known.

    """

    measurement: Measurement | None = None
    error: TightfitError | None = None
    news: Known | None = None


@dataclass
class Pace:
    """What one measurement takes, about: those of before and the newest count equally."""

    task_seconds: float = 2.0

    def note(self, found: Measurement | None) -> None:
        """Take a measurement's time."""
        if found is not None:
            self.task_seconds = (self.task_seconds + found.seconds) / 2


Ended = Callable[[int, Answer], None]


@dataclass(frozen=True)
class Answerer:
    """Answers questions.

    Attributes:
        known_answers: what is known; takes every new answer once it is recorded.
        executor: measures the others.
        check_stop: raises to give up.
        before: called before the first question that needs a worker.
        pace: how long one takes.

    """

    known_answers: KnownAnswers
    executor: Executor
    check_stop: Callable[[], None]
    before: Callable[[], None]
    pace: Pace = field(default_factory=Pace)

    def answer(
        self,
        questions: Sequence[Question],
        ended: Ended,
        may_start: Callable[[], bool] = lambda: True,
    ) -> list[int]:
        """Answer questions in any order; `ended(index, answer)` is called once for each.

        Args:
            questions: what to measure.
            ended: records an answer, and its news for all jobs.
            may_start: asked before each task.

        Returns:
            indices of the questions that were not started.

        """
        unknown = []
        for index, known in enumerate(self.known_answers.find(questions)):
            if known is not None:
                ended(index, Answer(known))
            else:
                unknown.append(index)
        if not unknown or not may_start():
            return unknown
        self.before()
        tasks = [self.known_answers.task(questions[index]) for index in unknown]
        left = self._run(
            tasks, lambda n, answer: self._keep(unknown[n], questions[unknown[n]], answer, ended), may_start
        )
        return [unknown[n] for n in left]

    def _run(
        self, tasks: Sequence[tuple[Evaluate, Measurement | None]], ended: Ended, may_start: Callable[[], bool]
    ) -> list[int]:
        def collect(index: int, outcome: Outcome) -> None:
            start, found = tasks[index][1], outcome.value
            self.pace.note(found)
            if outcome.error is not None:
                ended(index, Answer(error=outcome.error))
            else:
                ended(index, Answer(found if start is None else Measurement.joined(start, found)))

        evaluations = [task for task, _ in tasks]
        batches = in_batches(evaluations, self.executor.num_workers, self.pace.task_seconds)
        return run_tasks(self.executor, evaluations, collect, self.check_stop, may_start, batches)

    def _keep(self, index: int, question: Question, answer: Answer, ended: Ended) -> None:
        if answer.measurement is None:
            ended(index, answer)
            return
        self.known_answers.keep_sketch(question, answer.measurement)  # first: no record without it, whatever happens
        news = self.known_answers.known(question, answer.measurement)
        ended(index, replace(answer, news=news))
        self.known_answers.learn(question, news)
