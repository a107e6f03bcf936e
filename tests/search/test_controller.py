"""Whole jobs with a scripted executor: how they end, and what their fronts promise."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from search import controller
from search.controller import Controller
from search.stopping import StopRule
from space.errors import InfeasibleBudgetError, JobFailedError
from space.spec import JobSpec
from storage.records import JobState, TrialState
from tests.search.house import House, comparable
from tests.search.scripted import DENSE_PERPLEXITY, ScriptedExecutor, prepared, spec
from workers.tasks import Evaluate


def test_done_with_a_front(house: House) -> None:
    """The end of a job is a front on held-out text, with uniform plans beside it."""
    house.submit()
    job = house.run(ScriptedExecutor())
    document = house.document()
    assert job.state == document.state == JobState.DONE
    assert (document.measured_on, document.dense.perplexity) == ("held_out", DENSE_PERPLEXITY)
    assert [u.level for u in document.uniform] == ["b2-g64", "b3-g64", "b4-g64", "b8-g64"]
    assert len(document.front) > 3
    assert 0 < document.hypervolume < 1
    assert document.cost.trials == len(house.states())
    assert house.notes.phases[-1].startswith("judging")
    assert house.notes.progressed[-1]["trials_done"] == len(house.states())


def test_points_of_the_front(house: House) -> None:
    """Sizes rise, losses fall, intervals hold their means, and each point is its trial's held-out measurement."""
    house.submit()
    house.run(ScriptedExecutor())
    front, trials = house.document().front, house.store.list_trials("one")
    assert [p.point for p in front] == [f"p{i}" for i in range(len(front))]
    assert [p.size_bytes for p in front] == sorted({p.size_bytes for p in front})
    assert [p.kl_divergence for p in front] == sorted({p.kl_divergence for p in front}, reverse=True)
    for point in front:
        held_out = trials[point.trial].held_out
        assert held_out is not None
        assert (point.kl_divergence, point.perplexity) == (held_out.kl_divergence, held_out.perplexity)
        assert point.kl_divergence_ci95[0] <= point.kl_divergence <= point.kl_divergence_ci95[1]
        assert point.size_bytes == trials[point.trial].size_bytes


@pytest.mark.parametrize("values", [{}, {"budget": "3.4bpw"}, {"context": 20, "batch": 2, "budget": "6bpw"}])
def test_the_recommended_point_fits_and_beats_uniform_plans(house: House, values: dict[str, Any]) -> None:
    """Key/value cache included; no uniform plan that fits is better."""
    house.submit(**values)
    house.run(ScriptedExecutor())
    document = house.document()
    best = document.recommended
    assert best is not None
    assert best.size_bytes <= document.budget_bytes
    for uniform in document.uniform:
        if uniform.size_bytes <= document.budget_bytes:
            assert best.kl_divergence <= uniform.kl_divergence


def test_a_failing_trial_costs_only_itself(house: House) -> None:
    """It is recorded with its evidence and the job goes on."""
    failing = list(prepared(spec()).space.uniform_plans())[1][1]
    house.submit()
    assert house.run(ScriptedExecutor(fails=lambda task: task.plan == failing)).state is JobState.DONE
    failed = [t for t in house.store.list_trials("one") if t.state is TrialState.FAILED]
    assert failed
    assert all(t.plan == failing and "scripted failure" in str(t.reason) for t in failed)
    assert "b3-g64" not in [u.level for u in house.document().uniform]


def test_all_failing_fails_the_job(house: House) -> None:
    """The error says how many failed and why, and is recorded."""
    house.submit()
    with pytest.raises(JobFailedError, match="All 4 trials of a batch failed; the last one: scripted failure"):
        house.run(ScriptedExecutor(fails=lambda _: True))
    job = house.store.get_job("one")
    assert (job.state, job.document) == (JobState.FAILED, None)
    assert "scripted failure" in str(job.error)
    assert set(house.states()) == {TrialState.FAILED}


def test_a_failed_job_can_be_resumed(house: House) -> None:
    """What failed is tried again as new trials."""
    house.submit()
    with pytest.raises(JobFailedError):
        house.run(ScriptedExecutor(fails=lambda _: True))
    assert house.resume(ScriptedExecutor()).state is JobState.DONE
    assert len(house.document().uniform) == 4


def test_errors_before_the_start_are_recorded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that cannot be reached fails the job with its own error; a bug of ours does too."""

    def refuse(_: JobSpec) -> None:
        raise InfeasibleBudgetError("too small")

    def break_down(_: JobSpec) -> None:
        raise ZeroDivisionError("ours")

    for job_id, cause, kind in (("one", refuse, InfeasibleBudgetError), ("two", break_down, ZeroDivisionError)):
        monkeypatch.setattr(controller, "prepare", cause)
        house.submit(job_id)
        with pytest.raises(kind):
            Controller(house.store, lambda *_: ScriptedExecutor(), Path("/cache"), house.notes).run(job_id)
        assert house.store.get_job(job_id).state is JobState.FAILED
    assert house.store.get_job("one").error == "too small"


def test_known_measurements_are_not_run_again(house: House) -> None:
    """A second job with the same question gets every answer for nothing, held-out ones included."""
    house.submit("one")
    house.run(ScriptedExecutor(), "one")
    house.submit("two")
    executor = ScriptedExecutor()
    house.run(executor, "two")
    assert executor.evaluated == []
    assert comparable(house.document("two")) == comparable(house.document("one"))


def test_other_text_is_another_question(house: House) -> None:
    """Probes on part of the text do not answer for the whole of it."""
    house.submit()
    executor = ScriptedExecutor()
    house.run(executor)
    keys = {(t.plan.digest, t.split, t.num_sequences) for t in executor.evaluated}
    assert len(keys) == len(executor.evaluated)


@pytest.mark.parametrize("max_trials", [1, 3, 4, 5, 15, 40, 60])
def test_max_trials(house: House, max_trials: int) -> None:
    """Never more trials than allowed, and a front even with few."""
    house.submit(max_trials=max_trials, sampler="random")
    assert house.run(ScriptedExecutor()).state is JobState.DONE
    assert len(house.states()) == max_trials
    assert house.document().front


def test_max_minutes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the time is over no new batch is asked; what was measured is judged."""
    now = 0.0

    def tick(_: int) -> None:
        nonlocal now
        now += 12.0

    monkeypatch.setattr(controller, "StopRule", partial(StopRule, clock=lambda: now))
    house.submit(max_minutes=1)
    assert house.run(ScriptedExecutor(on_evaluate=tick)).state is JobState.DONE
    assert {t.origin for t in house.store.list_trials("one")} == {"uniform", "sensitivity"}
    assert "search ended: 1 minutes are over" in house.notes.phases
    assert house.document().measured_on == "held_out"


def test_pinned_modules_keep_their_level(house: House) -> None:
    """In every trial, uniform plans included."""
    house.submit(pins=(("down_proj", "b7-g16"),))
    house.run(ScriptedExecutor())
    for trial in house.store.list_trials("one"):
        assert {str(v) for n, v in trial.plan.levels if n.endswith("down_proj")} == {"b7-g16"}


def test_evaluations_of_a_search(house: House) -> None:
    """Trials see search text only; held-out text is for at most twelve contenders and the uniform plans."""
    house.submit()
    executor = ScriptedExecutor()
    house.run(executor)
    splits: Sequence[str] = [task.split for task in executor.evaluated]
    judged: list[Evaluate] = [task for task in executor.evaluated if task.split == "held_out"]
    assert list(dict.fromkeys(splits)) == ["search", "held_out"]
    assert len(judged) <= 12 + 4
    assert {plan.digest for _, plan in prepared(spec()).space.uniform_plans()} <= {t.plan.digest for t in judged}
