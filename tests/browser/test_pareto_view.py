"""What a user sees in a browser: the Pareto view that the link opens, and the report."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from search.explain import explain, losses_from_facts
from storage.mlflow_server import start_server, stop_server
from storage.mlflow_view import SECTION_TITLE
from storage.tracking import sync
from tests.storage.sample_job import SampleJob, sample_job, sample_losses
from tightfit.export.report import render_report

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
pytest.importorskip("mlflow")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


@pytest.fixture(scope="module")
def link(tmp_path_factory: pytest.TempPathFactory, sample: SampleJob) -> Iterator[str]:
    """Yield the Pareto link of a job shown by a real server."""
    home = tmp_path_factory.mktemp("home")
    try:
        server = start_server(home)
        report = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec)
        yield sync(server.url, sample.job, sample.trials, sample.document, report, sample.progress)
    finally:
        stop_server(home)


@pytest.fixture
def page() -> "Iterator[Page]":
    """Yield a page of a fresh headless Chromium."""
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1500, "height": 1000})
        page.set_default_timeout(PATIENCE_MS)
        yield page
        browser.close()


def test_link_opens_the_scatter(page: "Page", link: str, sample: SampleJob, tmp_path: Path) -> None:
    """The link shows the section with one dot per point of the job, without a click."""
    page.goto(link)
    page.get_by_text(SECTION_TITLE, exact=True).first.wait_for()
    dots = page.locator(".js-plotly-plot .scatterlayer .point, .js-plotly-plot .points path")
    dots.first.wait_for()
    page.screenshot(path=str(tmp_path / "pareto.png"))
    assert dots.count() >= len(sample.document.front) + len(sample.document.uniform) + 1


def test_report_artifact_renders(page: "Page", link: str) -> None:
    """The report.html artifact of the job's run draws its chart and its heat map in MLflow's frame."""
    base, _, route = link.partition("/#/experiments/")
    address = f"{base}/#/experiments/{route.partition('/')[0]}/runs?workflowType=machine_learning"
    page.goto(address)
    page.get_by_role("link", name="calm-otter-7").first.click()
    page.wait_for_url("**/runs/*")
    page.goto(page.url.partition("?")[0] + "/artifacts/report.html")
    frame = page.frame_locator("iframe")
    frame.locator("svg.chart .point").first.wait_for(state="attached")
    frame.locator("#map td").first.wait_for(state="attached")


def test_report_follows_the_selection(page: "Page", sample: SampleJob) -> None:
    """Keyboard and switch change the plan that is shown; nothing is logged as an error."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(render_report(sample.document, sample.plans, sample.inventory, sample.job.spec))
    title = page.locator("#detail-title")
    assert title.inner_text() == "Plan p4 (recommended)"
    page.locator(".wide .point.best").focus()
    page.keyboard.press("ArrowRight")
    assert title.inner_text() == "Plan p5"
    page.get_by_role("button", name="Rank").click()
    assert {"0", "16"} == set(page.locator("#map td").all_inner_texts())
    assert errors == []


def test_reasons_follow_the_selection_and_sort(page: "Page", sample: SampleJob) -> None:
    """A row per module, the largest share first; a click on a column sorts by it."""
    model = losses_from_facts({"model": {"losses": sample_losses(sample)}})
    assert model is not None
    inventory, front = sample.inventory, sample.document.front
    told = {p.point: explain(inventory, "packed", model, sample.plans[p.point], p.point, 0.5) for p in front}
    page.set_content(render_report(sample.document, sample.plans, inventory, sample.job.spec, (), told))
    assert page.locator("#reasons tbody tr").count() == len(inventory.modules)
    names = page.locator("#reasons tbody th").all_inner_texts()
    assert names == [r.module.removeprefix("model.") for r in told["p4"].modules]
    page.get_by_role("button", name="Module").click()
    assert page.locator("#reasons tbody th").all_inner_texts() == sorted(names)
    page.get_by_role("button", name="Larger").click()
    names, levels = (page.locator(f"#reasons tbody {cell}").all_inner_texts() for cell in ("th", "td:nth-child(2)"))
    shown = {f"model.{name}": level for name, level in zip(names, levels, strict=True)}
    assert shown == sample.plans["p5"].to_json()
