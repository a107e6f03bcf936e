"""Sending tasks and collecting their ends."""

import pytest

from search.measure.dispatch import StopRequestedError, require_all, run_tasks
from space.errors import CalibrationError, JobFailedError
from space.level import Level
from space.measurement import Measurement
from tests.search.scripted import ScriptedExecutor, measure, prepared, spec
from workers.pool.executor import Outcome
from workers.tasks import Evaluate
from workers.text.tokens import TokenSet

TOKENS = TokenSet("/scripted/tokens", "", ("a", "b", "c"))
SPACE = prepared(spec()).space
TASKS = [Evaluate(TOKENS, SPACE.uniform_plan(Level(bits, 64)), "search") for bits in (2, 3, 4, 8)]


@pytest.mark.parametrize("order", ["first", "last", "random"])
def test_values_come_in_the_order_of_tasks(order: str) -> None:
    """Whoever is faster."""
    found: list[Measurement] = require_all(ScriptedExecutor(order), TASKS)
    assert found == [measure(task) for task in TASKS]


def test_a_failure_of_what_is_needed_fails_the_job() -> None:
    """The message names the task and the cause."""
    with pytest.raises(JobFailedError, match="Evaluate: scripted failure"):
        require_all(ScriptedExecutor(fails=lambda _: True), TASKS)


def test_usage_errors_of_a_task_stay_usage_errors() -> None:
    """Text that is too short is the user's to fix, not a failed job."""

    def complain(_: int) -> None:
        raise CalibrationError("too short")

    with pytest.raises(CalibrationError, match="too short"):
        require_all(ScriptedExecutor(on_evaluate=complain), TASKS)


def test_stop_gives_up_what_is_left() -> None:
    """Ends of an abandoned batch are not taken for those of the next one."""
    executor, ends = ScriptedExecutor(), []

    def stop() -> None:
        raise StopRequestedError

    def collect(index: int, outcome: Outcome) -> None:
        ends.append((index, outcome.value))

    with pytest.raises(StopRequestedError):
        run_tasks(executor, TASKS, collect, stop)
    assert ends == [(0, measure(TASKS[0]))]
    ends.clear()
    run_tasks(executor, TASKS[3:], collect)
    assert ends == [(0, measure(TASKS[3]))]
