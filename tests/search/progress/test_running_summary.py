"""The summary of a job: at every moment what its records tell, without anybody reading them."""

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from search.progress import running_summary
from space.errors import TightfitError
from space.results.document import FrontDocument
from space.results.price import MarginalPrice
from storage.job_summary import Summary
from storage.records import Job, JobState
from tests.search.house import House, Notes, cancel_after
from tests.search.scripted import ScriptedExecutor


def summary_of(house: House, job_id: str = "one") -> Summary:
    """Return a job's summary."""
    found = house.store.overview(job_id).summary
    assert found is not None
    return found


def check_agrees(found: Summary, house: House, document: FrontDocument, job_id: str = "one") -> None:
    """Compare a summary with the records."""
    assert found.trials == Counter(map(str, house.states(job_id)))
    best = document.recommended
    assert best is not None
    assert (found.hypervolume, found.num_points) == (document.hypervolume, len(document.front))
    assert (found.measured_on, found.marginal_price) == (document.measured_on, document.marginal_price)
    assert found.recommended is not None
    assert found.recommended.point == best.point
    assert found.best_kl_divergence == found.recommended.kl_divergence == best.kl_divergence


@pytest.mark.parametrize("values", [{}, {"max_trials": 40}, {"sampler": "random", "max_trials": 30}, {"seed": 2}])
def test_a_done_job_is_done(house: House, values: dict[str, Any]) -> None:
    """All of it, with the figures of its front."""
    house.submit(**values)
    house.run(ScriptedExecutor())
    found = summary_of(house)
    check_agrees(found, house, house.document())
    assert (found.share_done, found.seconds_left) == (1.0, 0.0)
    assert found.elapsed_seconds >= house.document().cost.wall_seconds > 0


class Watcher(Notes):
    """A listener that looks at the summary whenever it is told something."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self.house, self.seen = house, list[Summary]()

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        super().progress(job, trials_done, metrics)
        self.house.store.update_job(job.job_id, phase="looked at")

    def phase(self, job: Job, text: str) -> None:
        super().phase(job, text)
        if (found := self.house.store.overview(job.job_id).summary) is not None:
            self.seen.append(found)
            told = self.progressed[-1] if self.progressed else {}
            if found.measured_on == "search":
                assert found.best_kl_divergence == told.get("best_kl_under_budget", found.best_kl_divergence)
                assert found.hypervolume == pytest.approx(told.get("hypervolume", found.hypervolume))
            if "marginal_kl_drop" in told and found.marginal_price is not None:
                price = MarginalPrice(int(told["marginal_step_bytes"]), told["marginal_kl_drop"])
                assert str(found.marginal_price) == str(price)


def test_a_watcher_sees_what_the_listener_was_told(house: House) -> None:
    """At each step the same figures; more and more is done."""
    house.notes = watcher = Watcher(house)
    house.submit()
    house.run(ScriptedExecutor())
    shares = [found.share_done for found in watcher.seen if found.share_done is not None]
    assert len(shares) == len(watcher.seen) > 8
    assert all(0 <= share <= 1 for share in shares)
    assert all(found.seconds_left is not None and found.seconds_left >= 0 for found in watcher.seen)
    assert all(sum(a.trials.values()) <= sum(b.trials.values()) for a, b in pairwise(watcher.seen))
    timed = [text for text in watcher.phases if text.endswith(" left)")]
    assert any(text.startswith("measuring") for text in timed)
    assert "done, about" in timed[-1]


def test_a_long_wait_keeps_it_fresh(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two steps it follows the trials that end, each time somebody looks who asked to stop."""
    monkeypatch.setattr(running_summary, "_MIN_SECONDS", 0.0)
    monkeypatch.setattr(running_summary, "_MAX_SHARE", 1e9)
    counts = set[int]()

    def look(_: int) -> None:
        found = house.store.overview("one").summary
        counts.add(0 if found is None else found.trials.get("COMPLETE", 0))

    house.submit(max_trials=40)
    house.run(ScriptedExecutor(on_evaluate=look))
    assert len(counts) > 35


@pytest.mark.parametrize("how", ["cancelled", "failed"])
def test_a_job_that_ended_early_tells_how_far_it_came(house: House, how: str) -> None:
    """Its trials by their states, and when it goes on, the time of both runs."""
    house.submit()
    if how == "cancelled":
        house.run(ScriptedExecutor(on_evaluate=cancel_after(house, 20)))
    else:
        with pytest.raises(TightfitError):
            house.run(ScriptedExecutor(fails=lambda task: task.sketch))
    found = summary_of(house)
    assert found.trials == Counter(map(str, house.states()))
    assert len(found.trials) > 1
    assert house.store.overview("one").state in (JobState.CANCELLED, JobState.FAILED)
    house.resume(ScriptedExecutor())
    check_agrees(summary_of(house), house, house.document())
    assert summary_of(house).elapsed_seconds > found.elapsed_seconds


def test_a_warm_job_has_a_front_from_the_start(house: House) -> None:
    """And its summary tells it before any worker starts."""
    house.submit()
    house.run(ScriptedExecutor())
    house.submit("two", budget="3bpw")
    seen = list[Summary]()
    executor = ScriptedExecutor(on_evaluate=lambda _: seen.append(summary_of(house, "two")))
    house.run(executor, "two")
    assert seen[0].num_points > 3
    for found in seen:  # what the first job judged: nothing of the search's own text is mixed into it
        assert (found.measured_on, found.recommended is not None) == ("held_out", True)
        assert found.recommended is None or found.best_kl_divergence == found.recommended.kl_divergence
    check_agrees(summary_of(house, "two"), house, house.document("two"), "two")
