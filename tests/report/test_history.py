"""How the search went, in the report: all trials as dots, hypervolume and best KL as lines."""

import re
from dataclasses import replace

import pytest

from storage.records import Trial
from tests.storage.sample_job import SampleJob, sample_job
from tightfit.report.history import MAX_DOTS, measured_points
from tightfit.report.page import render_report


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


def _trials(sample: SampleJob, count: int) -> list[Trial]:
    measured = [t for t in sample.trials if t.measurement]
    return [replace(measured[n % len(measured)], number=n, size_bytes=4_400_000 + 997 * n) for n in range(count)]


def test_all_trials_are_pale_dots(sample: SampleJob) -> None:
    """Measured trials inside the frame are dots behind the front in both charts; failed ones are not."""
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, trials=sample.trials)
    wide, narrow = (re.findall(r"M\d+ \d+h0", path) for path in re.findall(r'class="dots" d="([^"]*)"', html))
    measured = [t for t in sample.trials if t.measurement]
    assert len(measured) < len(sample.trials)
    assert 0.9 * len(measured) < len(wide) <= len(measured)
    assert 0.9 * len(measured) < len(narrow) <= len(measured)
    assert html.index('class="dots"') < html.index('class="front-line"')
    assert f"pale dots are all {len(measured)} plans" in html
    assert "pale dots" not in render_report(sample.document, sample.plans, sample.inventory, sample.job.spec)


def test_dots_of_a_long_search_are_spread_over_it(sample: SampleJob) -> None:
    """Of more trials than a page holds, equally many of its begin and its end are drawn, and the page says so."""
    trials = _trials(sample, 7001)
    drawn = measured_points(trials)
    assert len(drawn) == MAX_DOTS
    assert abs(sum(size < trials[3500].size_bytes for size, _ in drawn) - MAX_DOTS / 2) <= 1
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, trials=trials)
    assert "pale dots are 2,000 of the 7,001 plans" in html
    assert len(html.encode()) < 160_000


def test_history_is_drawn(sample: SampleJob) -> None:
    """Hypervolume and best KL are lines over the trials; a search that measured one thing has no lines."""
    steps = [(n, {"hypervolume": 0.5 + n / 1000, "best_kl_under_budget": 2.0 / n}) for n in range(10, 310, 10)]
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, steps=steps)
    assert "Best KL divergence within the budget: 0.200 at first, 0.00667 after 300 trials" in html
    assert "Hypervolume: 0.510 at first, 0.800 after 300 trials" in html
    assert [path.count("H") for path in re.findall(r'class="step" d="([^"]*)"', html)] == [29, 29]


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [(12, {"trials_done": 12.0})],
        [(12, {"hypervolume": 0.5, "best_kl_under_budget": 0.1})],
        [(12, {"hypervolume": float("nan"), "best_kl_under_budget": float("inf")}), (13, {})],
    ],
)
def test_history_without_a_course_is_left_out(sample: SampleJob, steps: list[tuple[int, dict[str, float]]]) -> None:
    """What has no two values is not drawn."""
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, steps=steps)
    assert "How the search went" not in html


def test_history_that_stands_still_is_a_level_line(sample: SampleJob) -> None:
    """Zero, equal and negative values have an axis too."""
    for value in (0.0, 0.25, -1e-9):
        steps = [(n, {"hypervolume": value, "best_kl_under_budget": value}) for n in (5, 10, 15)]
        html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, steps=steps)
        assert len(re.findall(r'class="step" d="M[\d.]+ [\d.]+H[\d.]+V[\d.]+"', html)) == 2
