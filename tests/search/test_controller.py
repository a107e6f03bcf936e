"""Whole jobs with a scripted executor: how they end, and what their fronts promise."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from search.controller import Controller
from search.decide.handmade_plans import heuristic_plans
from search.job import job_steps
from search.job.stopping import StopRule
from search.measure.answer_keys import evaluation_digest
from space.errors import InfeasibleBudgetError, JobFailedError
from storage.records import JobState, TrialState
from tests.search.house import House
from tests.search.scripted import DENSE_PERPLEXITY, ScriptedExecutor, measure, prepared, spec
from workers.tasks import Evaluate
from workers.text.tokens import TokenSet

SPACE = prepared(spec()).space
NUM_BY_HAND = len(list(SPACE.uniform_plans())) + min(6, len(heuristic_plans(SPACE)))
"""Plans of the first batch."""


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


def test_a_failing_batch_of_one_costs_only_itself(house: House) -> None:
    """One plan that fails is not three in a row, though it is a whole batch."""
    executor = ScriptedExecutor()
    executor.fails = lambda _: len(executor.evaluated) == 1
    house.submit(bits=(3,), group_sizes=(32, 64), budget="3.6bpw")
    assert house.run(executor).state is JobState.DONE
    assert house.states()[:2] == [TrialState.FAILED, TrialState.COMPLETE]
    assert house.document().front


def test_front_from_the_first_batch_on(house: House) -> None:
    """While the search goes on there is a front to look at and to export, on search text, that only improves."""
    seen = []

    def look(_: int) -> None:
        if (document := house.store.get_job("one").document) is not None:
            seen.append(document)

    house.submit()
    executor = ScriptedExecutor(on_evaluate=look)
    house.run(executor)
    assert len(seen) == len(executor.evaluated) - NUM_BY_HAND
    assert {(d.state, d.measured_on) for d in seen} == {("RUNNING", "search")}
    assert all(d.front for d in seen)
    assert [d.hypervolume for d in seen] == sorted(d.hypervolume for d in seen)
    assert {"model_digest", "tokens", "cache_folder", "wall_seconds"} <= house.store.get_job(
        "one"
    ).facts.to_json().keys()


def test_all_failing_fails_the_job(house: House) -> None:
    """The error says how many failed and why, and is recorded."""
    house.submit()
    with pytest.raises(
        JobFailedError, match=f"The last {NUM_BY_HAND} trials all failed; the last one: scripted failure"
    ):
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

    def refuse(*_: object, **__: object) -> None:
        raise InfeasibleBudgetError("too small")

    def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    for job_id, cause, kind in (("one", refuse, InfeasibleBudgetError), ("two", break_down, ZeroDivisionError)):
        monkeypatch.setattr(job_steps, "prepare", cause)
        house.submit(job_id)
        with pytest.raises(kind):
            Controller(house.store, lambda *_: ScriptedExecutor(), house.cache_folder, house.notes).run(job_id)
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
    first, second = house.document("one"), house.document("two")
    assert [replace(p, trial=0) for p in second.front] == [replace(p, trial=0) for p in first.front]
    assert (second.cost.token_forwards, second.cost.trials) == (0.0, 0)


def test_other_text_is_another_question(house: House) -> None:
    """Probes on part of the text do not answer for the whole of it."""
    house.submit()
    executor = ScriptedExecutor()
    house.run(executor)
    keys = {(t.plan.digest, t.split, t.first_sequence, t.num_sequences) for t in executor.evaluated}
    assert len(keys) == len(executor.evaluated)


def test_another_calibration_is_another_question() -> None:
    """Levels are made of it: the same plan on the same held-out text is another model."""
    one, other = (TokenSet("tokens", "text", (calibration, "b", "c")) for calibration in ("a", "d"))
    for split in ("search", "held_out"):
        assert evaluation_digest("model", one, split, None) != evaluation_digest("model", other, split, None)


@pytest.mark.parametrize("max_trials", [1, 3, 4, 5, 15, 40, 60])
def test_max_trials(house: House, max_trials: int) -> None:
    """Never more trials than allowed, and a front even with few."""
    house.submit(max_trials=max_trials, sampler="random")
    assert house.run(ScriptedExecutor()).state is JobState.DONE
    assert len(house.states()) == max_trials
    assert house.document().front


def test_max_minutes(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes are spent on plans near the budget, no probe is begun that they do not allow, then plans are judged."""
    now = 0.0

    def tick(_: int) -> None:
        nonlocal now
        now += 12.0

    monkeypatch.setattr(job_steps, "StopRule", partial(StopRule, clock=lambda: now))
    minutes = (NUM_BY_HAND + 1) / 5
    house.submit(max_minutes=minutes)
    executor = ScriptedExecutor(on_evaluate=tick, num_workers=1)
    assert house.run(executor).state is JobState.DONE
    assert {t.origin for t in house.store.list_trials("one")} >= {"uniform", "knapsack"}
    assert "sensitivity" not in {t.origin for t in house.store.list_trials("one")}
    assert f"search ended: {minutes:g} minutes are over" in house.notes.phases
    assert house.document().measured_on == "held_out"
    assert len(executor.searched) == len(house.states())
    best = min(t.size_bytes for t in house.store.list_trials("one") if t.origin == "knapsack")
    assert best <= house.document().budget_bytes
    house.resume(more := ScriptedExecutor())
    assert more.searched
    assert set(house.states()) == {TrialState.COMPLETE}


def test_minutes_that_end_amid_a_batch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not begun says why; a resumed job measures it."""
    now = 0.0

    def tick(number: int) -> None:
        nonlocal now
        now += 1000.0 if number == NUM_BY_HAND + 24 else 0.1

    monkeypatch.setattr(job_steps, "StopRule", partial(StopRule, clock=lambda: now))
    house.submit(max_minutes=15)
    executor = ScriptedExecutor(on_evaluate=tick, num_workers=1)
    assert house.run(executor).state is JobState.DONE
    stopped = [t for t in house.store.list_trials("one") if t.state is TrialState.STOPPED]
    assert stopped
    assert {t.reason for t in stopped} == {"15 minutes are over"}
    assert len(stopped) + len(executor.searched) == len(house.states())
    house.resume(more := ScriptedExecutor())
    assert len(more.searched) >= len(stopped)
    assert TrialState.STOPPED not in house.states()


def test_uniform_plans_are_measured_whatever_the_time(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them there is no front."""
    now = iter(range(0, 10**6, 100))
    monkeypatch.setattr(job_steps, "StopRule", partial(StopRule, clock=lambda: float(next(now))))
    house.submit(max_minutes=1)
    assert house.run(ScriptedExecutor()).state is JobState.DONE
    assert {t.origin for t in house.store.list_trials("one")} <= {"uniform", "heuristic", "knapsack"}
    assert house.document().uniform


def test_pinned_modules_keep_their_level(house: House) -> None:
    """In every trial, uniform plans included."""
    house.submit(pins=(("down_proj", "b7-g16"),))
    house.run(ScriptedExecutor())
    for trial in house.store.list_trials("one"):
        assert {str(v) for n, v in trial.plan.levels if n.endswith("down_proj")} == {"b7-g16"}


def test_a_plan_that_cannot_be_judged_is_left_out(house: House) -> None:
    """The others are judged; without a uniform plan nothing could be promised."""
    uniform = {plan.digest for _, plan in prepared(spec()).space.uniform_plans()}
    house.submit()
    executor = ScriptedExecutor()
    house.run(executor)
    judged = {t.plan.digest for t in house.store.list_trials("one") if t.held_out}
    lost = next(t.plan.digest for t in executor.evaluated if t.plan.digest in judged - uniform)
    for job_id, missing in (("two", lost), ("three", next(iter(uniform)))):
        other = House()
        other.submit(job_id)
        failing = ScriptedExecutor(fails=lambda t, m=missing: t.split == "held_out" and t.plan.digest == m)  # type: ignore[misc]
        if missing == lost:
            assert other.run(failing, job_id).state is JobState.DONE
            assert other.document(job_id).measured_on == "held_out"
            found = {t.plan.digest for t in other.store.list_trials(job_id) if t.held_out}
            assert lost not in found
            assert uniform <= found
            assert any("on held-out text is left out: scripted failure" in text for text in other.notes.phases)
        else:
            with pytest.raises(JobFailedError, match="on held-out text: scripted failure"):
                other.run(failing, job_id)


def test_evaluations_of_a_search(house: House) -> None:
    """Trials see search text only; held-out text is for the front and uniform plans, a third of the work."""
    house.submit()
    executor = ScriptedExecutor()
    house.run(executor)
    splits: Sequence[str] = [task.split for task in executor.evaluated]
    judged: list[Evaluate] = [task for task in executor.evaluated if task.split == "held_out"]
    assert list(dict.fromkeys(splits)) == ["search", "held_out"]
    spent = house.document().cost.token_forwards
    assert sum(measure(task).token_forwards for task in judged) <= spent / 3
    assert {plan.digest for _, plan in prepared(spec()).space.uniform_plans()} <= {t.plan.digest for t in judged}
