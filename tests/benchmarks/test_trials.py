"""What benchmarks/trials times on large models, on a small one and without a clock."""

from benchmarks.trials.controller import run
from benchmarks.trials.simulated import WEATHERS, search_batches, simulate
from search.decide.steps import FrontStrategy


def test_a_whole_job_is_counted() -> None:
    """The job ends at its limit, with everything recorded."""
    found = run(1, 30)
    assert (found["modules"], found["levels"], found["trials"]) == (7, 12, 30)
    assert found["cpu_ms_per_trial"] > 0
    assert found["resident_mib"] >= found["start_mib"]


def test_batches_of_a_search_are_done_one_after_the_other() -> None:
    """Wide batches of probes, narrow ones of plans; no more workers than the widest batch has trials can help."""
    batches = search_batches(1)
    assert 2 * 7 <= max(map(len, batches)) <= 1 + 2 * 7
    assert len(batches[-1]) <= FrontStrategy.round_size
    few, many = (simulate(batches, count, WEATHERS["slow trials"]) for count in (2, 256))
    assert few.utilisation > 0.7
    assert many.utilisation < max(map(len, batches)) / 256
