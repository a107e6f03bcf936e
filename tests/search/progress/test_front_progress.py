"""How far a search is, from its records alone."""

from dataclasses import replace

import pytest

from search.progress.front_progress import metrics_of, progress_of
from space.results.price import marginal_price
from tests.search.house import House, cancel_after
from tests.search.scripted import ScriptedExecutor
from tests.storage.sample_job import sample_job


def test_metrics() -> None:
    """Hypervolume where the corner is known, best KL where a point fits, a price where two points tell it."""
    assert metrics_of([], None, 1.0, 10) == {}
    assert metrics_of([(12.0, 0.5)], None, 1.0, 10) == {}
    points = [(8_000.0, 0.5), (9_000.0, 0.25)]
    found = metrics_of(points, (10_000.0, 1.0), 7_000.0, 10_000)
    price = marginal_price(points, 10_000)
    assert price is not None
    assert found.keys() == {"hypervolume", "best_kl_under_budget", "marginal_step_bytes", "marginal_kl_drop"}
    assert found["best_kl_under_budget"] == 0.25
    assert (found["marginal_step_bytes"], found["marginal_kl_drop"]) == (price.step_bytes, price.kl_divergence_drop)


def test_a_job_without_facts_still_has_a_history() -> None:
    """An older job: its budget is in its document; before either there is nothing to say."""
    sample = sample_job()
    assert progress_of(sample.job, sample.trials)[-1][1]["best_kl_under_budget"] > 0
    assert progress_of(replace(sample.job, document=None), sample.trials) == []
    assert progress_of(sample.job, []) == []


@pytest.mark.parametrize("how", ["undisturbed", "resumed", "warm"])
def test_history_is_what_the_listener_was_told(house: House, how: str) -> None:
    """Built from the store, the same figures at the same steps: also of a resumed job, and of one with known trials."""
    job_id = house.submit()
    cancel = cancel_after(house, 20) if how == "resumed" else lambda _: None
    house.run(ScriptedExecutor(on_evaluate=cancel))
    if how == "resumed":
        house.resume(ScriptedExecutor())
    elif how == "warm":
        house.notes.progressed.clear()
        job_id = house.submit("two", budget="3bpw")
        house.run(ScriptedExecutor(), job_id)
    steps = progress_of(house.store.get_job(job_id), house.store.list_trials(job_id))
    assert len(steps) > 1
    assert [step for step, _ in steps] == [metrics["trials_done"] for _, metrics in steps]
    assert [metrics for _, metrics in steps] == house.notes.progressed


def test_only_improves(house: House) -> None:
    """Over a search the hypervolume never falls and the best KL never rises."""
    house.submit()
    house.run(ScriptedExecutor())
    steps = [metrics for _, metrics in progress_of(house.store.get_job("one"), house.store.list_trials("one"))]
    volumes = [m["hypervolume"] for m in steps]
    best = [m["best_kl_under_budget"] for m in steps if "best_kl_under_budget" in m]
    assert volumes == sorted(volumes)
    assert best == sorted(best, reverse=True)
    assert all(m["marginal_kl_drop"] > 0 for m in steps[1:])
