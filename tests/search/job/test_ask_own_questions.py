"""A user's own questions in a job: every judged point is asked, and nothing else changes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from space.errors import CalibrationError
from space.results.document import FrontDocument
from space.results.own_score import score_of
from storage.records import JobState
from tests.search.house import House, comparable
from tests.search.scripted import ScriptedExecutor
from workers.tasks import AskQuestions, Task


@pytest.fixture
def asked(tmp_path: Path) -> Path:
    """Give a file of three questions; the scripted model takes the first choice of each, which is right twice."""
    path = tmp_path / "own.jsonl"
    lines = [{"prompt": "a", "choices": ["b", "c"], "answer": right} for right in (0, 1, 0)]
    path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return path


class _Counting(ScriptedExecutor):
    """Notes which plans are asked, and may fail with some."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: list[str] = []

    def _answer(self, task: Task) -> object:
        if isinstance(task, AskQuestions):
            self.plans.append(task.plan.digest)
        return super()._answer(task)


def _without(document: FrontDocument) -> FrontDocument:
    plain = comparable(document)
    return replace(
        plain,
        front=tuple(replace(p, own=None) for p in plain.front),
        uniform=tuple(replace(p, own=None) for p in plain.uniform),
        dense=replace(plain.dense, own=None),
        cost=replace(plain.cost, token_forwards=0.0),
    )


def test_judged_points_are_asked_and_nothing_else_changes(house: House, asked: Path) -> None:
    """The front is that of the job without questions; they cost token-forwards, which are counted."""
    plain, executor = House(), _Counting()
    plain.submit()
    plain.run(ScriptedExecutor())
    house.submit(judge=str(asked))
    house.run(executor)
    document = house.document()
    assert _without(document) == _without(plain.document())
    assert document.cost.token_forwards > plain.document().cost.token_forwards
    scores = [document.dense.own, *(p.own for p in document.front), *(p.own for p in document.uniform)]
    assert set(scores) == {score_of("323")}
    judged = [t.plan.digest for t in house.store.list_trials("one") if t.held_out is not None]
    assert sorted(executor.plans[1:]) == sorted(judged)
    assert FrontDocument.from_json(json.loads(json.dumps(document.to_json()))) == document


def test_questions_that_have_gone_end_the_job(house: House, asked: Path) -> None:
    """Before anything is searched, with what to do."""
    house.submit(judge=str(asked))
    asked.unlink()
    with pytest.raises(CalibrationError, match=r"own\.jsonl: no such file"):
        house.run(ScriptedExecutor())
    assert house.store.get_job("one").state is JobState.FAILED
    assert house.store.list_trials("one") == []
