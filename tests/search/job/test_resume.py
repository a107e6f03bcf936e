"""The same front whatever happens: workers of any speed, cancellations, interruptions, resumes."""

from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest

from search.controller import Controller
from search.job import job_steps
from search.job.stopping import StopRule
from search.measure.sketches import SketchBook
from space.errors import OutputError, UsageError
from space.spec import SamplerName
from storage.job_facts import JobFacts
from storage.records import JobState, TrialState
from tests.search.house import House, cancel_after, comparable, forgetful, undisturbed
from tests.search.scripted import DENSE_PERPLEXITY, ScriptedExecutor
from workers.compress import versions

SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_order_of_ends_does_not_matter(house: House, sampler: SamplerName) -> None:
    """The same front from workers of any speed."""
    expected, _ = undisturbed(sampler=sampler, max_trials=44)
    house.submit(sampler=sampler, max_trials=44)
    house.run(ScriptedExecutor("random"))
    assert comparable(house.document()) == expected


def test_the_time_of_all_runs_counts(house: House) -> None:
    """A resumed job tells how long it took in all, and a resumed finished one what it measured."""
    house.submit()
    house.run(ScriptedExecutor(on_evaluate=cancel_after(house, 7)))
    house.store.update_job("one", facts=JobFacts(wall_seconds=1000.0))
    house.resume(ScriptedExecutor())
    done = house.document()
    assert 1000.0 < done.cost.wall_seconds < 1600.0
    house.resume(ScriptedExecutor())
    assert house.document().cost.wall_seconds > done.cost.wall_seconds
    assert house.document().cost.token_forwards == done.cost.token_forwards > 0


@pytest.mark.parametrize("count", [0, 2, 7, 25])
def test_cancel_keeps_the_front_so_far(house: House, count: int) -> None:
    """A cancelled job has the front of the search text and says so; what was not measured waits."""
    house.submit()
    executor = ScriptedExecutor(on_evaluate=cancel_after(house, count))
    assert house.run(executor).state is JobState.CANCELLED
    document = house.document()
    assert (document.state, document.measured_on) == ("CANCELLED", "search")
    assert len(executor.evaluated) == count + 1
    assert document.cost.trials == count + 1
    assert document.dense.perplexity == DENSE_PERPLEXITY


@pytest.mark.parametrize("count", [25, 10**6])
def test_another_text_is_another_job(house: House, count: int) -> None:
    """What was measured on one text is never mixed with another's, whether the job was interrupted or had ended."""
    house.submit(max_trials=60)
    house.run(ScriptedExecutor(on_evaluate=cancel_after(house, count)))
    before = house.store.get_job("one")
    after = ScriptedExecutor(digests=("x", "y", "z"))
    with pytest.raises(UsageError, match=r"cannot go on: since it began, the text changed.*Submit it again"):
        house.resume(after)
    found = house.store.get_job("one")
    assert (found.state, after.evaluated) == (JobState.FAILED, [])
    assert (found.facts.tokens, found.document) == (before.facts.tokens, before.document)


def test_recorded_text_outlives_its_source(house: House, tmp_path: Path) -> None:
    """A text that is still in the cache is what a job goes on with, whatever its source holds now."""
    (tokens := tmp_path / "tokens").touch()
    house.submit(max_trials=60)
    house.run(ScriptedExecutor(on_evaluate=cancel_after(house, 25), tokens_path=str(tokens)))
    assert house.resume(ScriptedExecutor(digests=("x", "y", "z"))).state is JobState.DONE
    kept = house.store.get_job("one").facts.tokens
    assert kept is not None
    assert kept.digests == ("a", "b", "c")


@pytest.mark.parametrize(("what", "told"), [("methods", "tightfit's way"), ("model", "the model")])
def test_another_program_or_model_is_another_job(
    house: House, monkeypatch: pytest.MonkeyPatch, what: str, told: str
) -> None:
    """Their numbers cannot be compared either."""
    house.submit(max_trials=60)
    house.run(ScriptedExecutor(on_evaluate=cancel_after(house, 25)))
    if what == "methods":
        monkeypatch.setitem(versions.BUILDERS, "integer", 99)
    else:
        monkeypatch.setattr(job_steps, "model_digest", lambda _: "n" * 64)
    with pytest.raises(UsageError, match=rf"since it began, {told}.* changed"):
        house.resume(ScriptedExecutor())


def test_cancel_before_the_first_measurement(house: House) -> None:
    """There is no front then, and no error either."""
    house.submit()
    executor = ScriptedExecutor()
    cancelling = Controller(house.store, lambda *_: executor, house.cache_folder, house.notes)
    house.notes.phase = lambda job, text: house.store.request_cancel("one")  # type: ignore[method-assign]
    assert cancelling.run("one").state is JobState.CANCELLED
    assert house.store.get_job("one").document is None
    assert executor.evaluated == []


def test_interrupt_is_a_cancellation(house: House) -> None:
    """Ctrl-C keeps what was measured and is passed on."""

    def interrupt(number: int) -> None:
        if number == 6:
            raise KeyboardInterrupt

    house.submit()
    with pytest.raises(KeyboardInterrupt):
        house.run(ScriptedExecutor(on_evaluate=interrupt))
    assert house.store.get_job("one").state is JobState.CANCELLED
    assert house.document().measured_on == "search"


@pytest.mark.parametrize(
    ("sampler", "count"),
    [("front", 2), ("front", 8), ("front", 33), ("nsga2", 8), ("nsga2", 21), ("tpe", 17), ("random", 9)],
)
def test_resume_ends_as_if_undisturbed(house: House, sampler: SamplerName, count: int) -> None:
    """No trial is measured twice, and the front is the same."""
    expected, num_searched = undisturbed(sampler=sampler, max_trials=44)
    house.submit(sampler=sampler, max_trials=44)
    before, after = ScriptedExecutor("random", on_evaluate=cancel_after(house, count)), ScriptedExecutor("last")
    house.run(before)
    house.store = forgetful(house.store)
    assert house.resume(after).state is JobState.DONE
    assert len(before.searched) + len(after.searched) == num_searched
    assert comparable(house.document()) == expected


@pytest.mark.parametrize("count", [12, 39, 70])
def test_lost_sketches_are_measured_again(house: House, count: int) -> None:
    """They are no part of the records: where they are gone, their probes cost once more and decide what they would."""
    expected, num_searched = undisturbed(max_trials=90)
    house.submit(max_trials=90)
    before, after = ScriptedExecutor(on_evaluate=cancel_after(house, count)), ScriptedExecutor()
    house.run(before)
    lost = list(house.cache_folder.rglob("sketches/*/*.npy"))
    for path in lost:
        path.unlink()
    assert house.resume(after).state is JobState.DONE
    assert len(lost) > 0
    assert len(before.searched) + len(after.searched) >= num_searched + len(lost) // 2
    assert comparable(house.document()) == expected


def test_a_full_disk_loses_no_sketch(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe is recorded only once its sketch is kept: resumed, the job ends as if undisturbed."""
    expected, _ = undisturbed(max_trials=90)
    house.submit(max_trials=90)
    put, num_kept = SketchBook.put, 0

    def full(self: SketchBook, *args: Any) -> None:
        nonlocal num_kept
        num_kept += 1
        if num_kept > 50:
            raise OutputError("full")
        put(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(SketchBook, "put", full)
        with pytest.raises(OutputError):
            house.run(ScriptedExecutor())
    probes = [t for t in house.store.list_trials("one") if t.sampler_state.base]
    assert sum(t.state is TrialState.COMPLETE for t in probes) == 50
    again = ScriptedExecutor()
    assert house.resume(again).state is JobState.DONE
    assert comparable(house.document()) == expected
    assert "sketches are lost" not in " ".join(house.notes.phases)


def test_flat_rounds_before_an_interruption_count(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed search stops after as many rounds without growth as an undisturbed one."""
    monkeypatch.setattr(job_steps, "StopRule", partial(StopRule, min_growth=10.0))
    expected, num_searched = undisturbed(max_trials=300)
    house.submit(max_trials=300)
    before, after = ScriptedExecutor(on_evaluate=cancel_after(house, num_searched - 3)), ScriptedExecutor()
    house.run(before)
    house.resume(after)
    assert "search ended: the front has not grown for 2 rounds" in house.notes.phases
    assert len(before.searched) + len(after.searched) == num_searched
    assert comparable(house.document()) == expected


def test_many_interruptions(house: House) -> None:
    """A job that is stopped after every seventh plan, stop rule and all, ends as if undisturbed."""
    expected, num_searched = undisturbed(max_trials=120)
    house.submit(max_trials=120)
    executor = ScriptedExecutor(on_evaluate=cancel_after(house, 6))
    job, total = house.run(executor), 0
    for _ in range(40):
        total += len(executor.searched)
        if job.state is JobState.DONE:
            break
        executor = ScriptedExecutor(on_evaluate=cancel_after(house, 6))
        job = house.resume(executor)
    assert total == num_searched
    assert comparable(house.document()) == expected


def test_the_search_may_end_before_its_trials(house: House) -> None:
    """A front that no longer grows ends the search, and a resume of a finished job measures nothing."""
    _, num_searched = undisturbed(max_trials=400)
    assert num_searched < 400
    house.submit(max_trials=400)
    house.run(ScriptedExecutor())
    assert any("not grown" in text or "nothing left" in text for text in house.notes.phases)
    first, executor = comparable(house.document()), ScriptedExecutor()
    house.resume(executor)
    assert executor.evaluated == []
    assert comparable(house.document()) == first


def test_cancel_while_judging(house: House) -> None:
    """The search is not repeated; the held-out measurements are made once more in all."""
    expected, num_searched = undisturbed()
    house.submit()
    before, after = ScriptedExecutor(on_evaluate=cancel_after(house, num_searched + 2)), ScriptedExecutor()
    house.run(before)
    assert house.document().measured_on == "search"
    house.resume(after)
    assert (len(before.searched), after.searched) == (num_searched, [])
    assert comparable(house.document()) == expected
