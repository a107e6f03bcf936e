"""The contract of an executor as tests: every implementation inherits them and gives its own `executor` fixture."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from space.errors import CalibrationError, TrialError
from tests.workers.pool.odd_tasks import Misbehave, Sleep
from tests.workers.tiny_models import text_request
from workers.pool.executor import Executor, Outcome
from workers.tasks import PrepareText, Task
from workers.text.tokens import TokenSet


def odd(task: Sleep | Misbehave) -> Task:
    """Return a test's own task as one that an executor takes."""
    return cast("Task", cast("Any", task))


def ends(executor: Executor, count: int, limit_seconds: float = 120) -> list[Outcome]:
    """Return the ends of so many tasks, by handle."""
    found: list[Outcome] = []
    deadline = time.monotonic() + limit_seconds
    while len(found) < count and time.monotonic() < deadline:
        found += executor.wait(0.5)
    assert len(found) == count
    return sorted(found, key=lambda outcome: outcome.handle.number)


class ExecutorContract:
    """One test per behaviour."""

    def test_result_comes_back(self, executor: Executor, text_file: Path) -> None:
        """A real task's value arrives under its handle."""
        handle = executor.submit(PrepareText(text_request(text_file)))
        (outcome,) = ends(executor, 1)
        assert outcome.handle == handle
        assert outcome.error is None
        assert isinstance(outcome.value, TokenSet)
        assert outcome.value.load("search").shape == (6, 32)

    def test_every_task_ends_once(self, executor: Executor) -> None:
        """More tasks than workers all end, in any order, each under its own handle."""
        handles = [executor.submit(odd(Sleep(0.01))) for _ in range(9)]
        assert [outcome.handle for outcome in ends(executor, 9)] == handles
        assert len(set(handles)) == 9
        assert list(executor.wait(0.1)) == []

    def test_failure_is_a_value(self, executor: Executor) -> None:
        """An unexpected error costs its task only, and carries what and where it was."""
        executor.submit(odd(Misbehave("by zero")))
        executor.submit(odd(Sleep(0)))
        failed, well = ends(executor, 2)
        assert isinstance(failed.error, TrialError)
        assert failed.value is None
        assert "Misbehave failed: ZeroDivisionError('by zero')" in str(failed.error)
        assert "odd_tasks.py" in str(failed.error)
        assert well.error is None

    def test_usage_error_keeps_its_type(self, executor: Executor, tmp_path: Path) -> None:
        """What the user did wrong is told as such."""
        executor.submit(PrepareText(text_request(tmp_path / "none.txt")))
        (outcome,) = ends(executor, 1)
        assert type(outcome.error) is CalibrationError
        assert "none.txt: no such file" in str(outcome.error)

    def test_wait_without_tasks_returns_at_once(self, executor: Executor) -> None:
        """There is nothing to wait for."""
        started = time.monotonic()
        nothing: Sequence[Outcome] = executor.wait(60)
        assert list(nothing) == []
        assert time.monotonic() - started < 10
