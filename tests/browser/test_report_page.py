"""The report in a browser: what is beside what, where its address leads, and how it fits a phone."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from search.decide.explain import explain, losses_from_facts
from storage.job_facts import JobFacts, KeptLosses
from tests.browser.chromium import CHROMIUM, opened
from tests.storage.sample_job import CONTEXT, SampleJob, sample_job, sample_losses
from tightfit.report.page import render_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
MANY = 60


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


@pytest.fixture(scope="module")
def page() -> "Iterator[Page]":
    """Yield a page; no script of any test may fail."""
    errors: list[str] = []
    with opened() as page:
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
    assert errors == []


@pytest.fixture(scope="module")
def report(sample: SampleJob, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a job's report."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(_html(sample), encoding="utf-8")
    return path.as_uri()


def _html(sample: SampleJob, **values: str) -> str:
    steps = [(n, {"hypervolume": 0.5 + n / 100, "best_kl_under_budget": 1 / n}) for n in range(1, 40)]
    model = losses_from_facts(JobFacts(model=KeptLosses(sample_losses(sample))))
    assert model is not None
    plans, inventory, document = sample.plans, sample.inventory, sample.document
    told = {p.point: explain(inventory, "packed", model, plans[p.point], p.point, 0.5) for p in document.front}
    spec = sample.job.spec
    return render_report(document, plans, inventory, spec, (), told, trials=sample.trials, steps=steps, **values)


def _with_many_points(sample: SampleJob) -> SampleJob:
    front = sample.document.front
    many = tuple(
        replace(front[n % len(front)], point=f"p{n}", size_bytes=4_000_000 + 40_000 * n, recommended=n == 17)
        for n in range(MANY)
    )
    return replace(sample, document=replace(sample.document, front=many))


def test_address_names_the_point(page: "Page", report: str) -> None:
    """#p7 opens p7, and follows what is selected; an address that names no point opens the recommended one."""
    title = page.locator("#detail-title")
    for address, shown in (
        ("#p7", "Plan p7"),
        ("#p99", "Plan p4 (recommended)"),
        ("#%E0%A4%A", "Plan p4 (recommended)"),
    ):
        page.goto("about:blank")
        page.goto(report + address)
        sync_api.expect(title).to_have_text(shown)
    page.locator(".wide [data-point=p2]").click()
    sync_api.expect(title).to_have_text("Plan p2")
    assert page.url == report + "#p2"
    page.evaluate("location.hash = '#p11'")
    sync_api.expect(title).to_have_text("Plan p11")


def test_hovering_selects_nothing(page: "Page", report: str) -> None:
    """The mouse on its way from the chart to the plan changes nothing."""
    page.goto("about:blank")
    page.goto(report)
    for point in ("p9", "p1", "p14"):
        page.locator(f".wide [data-point={point}]").hover()
        assert page.locator("#detail-title").inner_text() == "Plan p4 (recommended)"


def test_plan_is_beside_the_chart(page: "Page", report: str) -> None:
    """Where there is room; all of it is seen at once."""
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.goto(report)
    chart, plan = page.locator(".wide .chart").bounding_box(), page.locator("#detail").bounding_box()
    assert chart is not None
    assert plan is not None
    assert plan["x"] >= chart["x"] + chart["width"]
    assert plan["y"] < chart["y"] + chart["height"]


@pytest.mark.parametrize("width", [320, 375, 430])
def test_nothing_scrolls_sideways_on_a_phone(page: "Page", sample: SampleJob, width: int) -> None:
    """Neither the page nor a table in it, with 60 points, reasons, a long name and long commands."""
    page.set_viewport_size({"width": width, "height": 800})
    many = _with_many_points(replace(sample, document=replace(sample.document, model="/models/" + "long-name-" * 12)))
    page.set_content(
        _html(many, home_option=" --home " + "/a/long/folder" * 9, mlflow_link="http://127.0.0.1:5000/#/x")
    )
    page.locator("#reasons td").first.wait_for()
    wide = "all => [document.scrollingElement, ...all].map(e => [e.id || e.className, e.scrollWidth - e.clientWidth])"
    assert {name: over for name, over in page.locator(".scroll").evaluate_all(wide) if over > 0} == {}


def test_sixty_points_can_all_be_selected(page: "Page", sample: SampleJob) -> None:
    """Each dot of a crowded chart can be hit."""
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.set_content(_html(_with_many_points(sample)))
    for point in ("p0", "p16", "p18", "p59"):
        page.locator(f".wide [data-point={point}] .dot").click()
        assert page.locator("#detail-title").inner_text() == f"Plan {point}"


def test_another_budget_selects_the_best_point_within_it(page: "Page", sample: SampleJob) -> None:
    """The slider ends where a point just fits; a longer context leaves less for weights, and none may fit."""
    page.set_viewport_size({"width": 1400, "height": 1000})
    page.goto("about:blank")
    page.set_content(_html(sample))
    title, told = page.locator("#detail-title"), page.locator("#what-told")
    sync_api.expect(title).to_have_text("Plan p4 (recommended)")
    page.locator("#what-budget").fill("1000")
    sync_api.expect(title).to_have_text(f"Plan {min(sample.document.front, key=lambda p: p.kl_divergence).point}")
    page.locator("#what-budget").fill("0")
    sync_api.expect(told).to_contain_text("No point fits; the smallest takes")
    page.locator("#what-context").fill("1024")
    page.locator("#what-context").press("Tab")
    cache = 8 * 512 * 1024
    weights = {p.point: p.size_bytes - 8 * 512 * CONTEXT for p in sample.document.front}
    within = [p for p in sample.document.front if weights[p.point] + cache <= sample.document.budget_bytes]
    assert not within
    sync_api.expect(told).to_contain_text("4.00 MiB of it cache")
    page.locator("#what-context").fill("64")
    page.locator("#what-context").press("Tab")
    room = sample.document.budget_bytes - 8 * 512 * 64
    best = min((p for p in sample.document.front if weights[p.point] <= room), key=lambda p: p.kl_divergence)
    sync_api.expect(title).to_have_text(f"Plan {best.point}")


def test_two_points_are_compared(page: "Page", sample: SampleJob) -> None:
    """Every module whose level differs is told, with both levels, and none else."""
    page.goto("about:blank")
    page.set_content(_html(sample))
    page.locator("#compare").select_option("p6")
    rows = page.locator("#differences tbody tr")
    here, there = sample.plans["p4"], sample.plans["p6"]
    differing = {m.name.removeprefix("model."): m for m in sample.inventory.modules if here[m.name] != there[m.name]}
    assert rows.count() == len(differing)
    for row in rows.all()[:5]:
        name, first, second = row.locator("th, td").all_inner_texts()
        module = differing[name]
        assert (first, second) == (str(here[module.name]), str(there[module.name]))
