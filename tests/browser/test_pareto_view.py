"""What a user sees in a browser: the Pareto view that the link opens, the way from a dot to its export, the report."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import hypot, log10
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from search.decide.explain import explain, losses_from_facts
from space.results.document import FrontDocument, FrontPoint, UniformPoint
from storage.job_facts import JobFacts, KeptLosses
from storage.tracking.mlflow_runs import sync
from storage.tracking.mlflow_server import RunningServer, start_server, stop_server
from storage.tracking.mlflow_view import SECTION_TITLE
from tests.browser.chromium import CHROMIUM, opened
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.storage.sample_job import SampleJob, sample_job, sample_losses
from tests.workers.tiny_models import TinyKind
from tightfit.report.page import render_report

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytest.importorskip("mlflow")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home whose name a shell would split."""
    return tmp_path_factory.mktemp("my home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    """Yield the real server of the home."""
    try:
        yield start_server(home)
    finally:
        stop_server(home)


@pytest.fixture(scope="module")
def link(server: RunningServer, sample: SampleJob) -> str:
    """Return the Pareto link of a job shown by the server."""
    report = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec)
    return sync(server.url, sample.job, sample.trials, sample.document, report, sample.progress)


@pytest.fixture
def page() -> "Iterator[Page]":
    """Yield a page of a fresh headless Chromium."""
    with opened() as page:
        yield page


def _opened_view(page: "Page", link: str) -> "Locator":
    """Open a Pareto view and return its first chart, drawn and with nothing over it."""
    page.goto(link)
    chart = page.locator(".js-plotly-plot").first
    chart.locator(".points path").first.wait_for()
    page.get_by_role("button", name="Close").first.click()  # MLflow's assistant; the charts grow into its place
    return chart


_ALONE_IS_BRIGHT = """index => [...document.querySelector(".js-plotly-plot").querySelectorAll(".points path")]
    .every((dot, number) => (getComputedStyle(dot).opacity === "1") === (number === index))"""


def _hover(page: "Page", chart: "Locator", point: str) -> None:
    """Put the mouse on a point and check that it alone lights up, in the chart and in the list."""
    names = chart.evaluate("plot => plot.data[0].text.map(name => name.split(' ')[0])")
    dots, index = chart.locator(".points path"), names.index(point)
    row = page.locator(".is-highlighted[role=row]", has_text=re.compile(rf"{point}(?!\d)"))
    for _ in range(20):  # the page may still be on the move
        page.mouse.move(1, 1)
        dots.nth(index).hover(force=True)
        with suppress(AssertionError):
            sync_api.expect(row).to_have_count(1, timeout=3_000)
            break
    sync_api.expect(page.locator(".is-highlighted[role=row]")).to_have_count(1)
    page.wait_for_function(_ALONE_IS_BRIGHT, arg=index)


def test_link_opens_the_scatter(page: "Page", link: str, sample: SampleJob, tmp_path: Path) -> None:
    """The link shows one dot per point in both charts, without a click, and none lights up its neighbour."""
    chart = _opened_view(page, link)
    page.get_by_text(SECTION_TITLE, exact=True).first.wait_for()
    dots = page.locator(".js-plotly-plot .points path")
    sync_api.expect(dots).to_have_count(2 * (len(sample.document.front) + len(sample.document.uniform)))
    page.screenshot(path=str(tmp_path / "pareto.png"))
    for point in ("p4", "p0", sample.document.front[-1].point):
        _hover(page, chart, point)


def _apart(document: FrontDocument) -> FrontPoint:
    """Return the point whose dot is farthest from its nearest neighbour: no other one lies over it."""
    points: list[FrontPoint | UniformPoint] = [*document.front, *document.uniform]
    sizes = [p.size_bytes for p in points]
    losses = [log10(p.kl_divergence) for p in points]
    wide, high = max(sizes) - min(sizes), max(losses) - min(losses)

    def distance(index: int) -> float:
        others = (i for i in range(len(points)) if i != index)
        return min(hypot((sizes[i] - sizes[index]) / wide, (losses[i] - losses[index]) / high) for i in others)

    return document.front[max(range(len(document.front)), key=distance)]


@pytest.mark.timeout(900)  # a server, a search, a browser and an export
def test_the_way_from_a_dot_to_its_export(
    page: "Page",
    home: Path,
    server: RunningServer,
    tiny: Callable[[TinyKind], Path],
    text_file: Path,
    tmp_path: Path,
) -> None:
    """Shared view, a point under the mouse, its run, its plan, its report, its command: that runs and verifies."""
    service = open_service(home)
    job_id, document = run_job(service, small_spec(tiny("tied"), text_file))
    point = _apart(document)
    name = point.point
    plan = service.plans(document)[point.point].to_json()
    chart = _opened_view(page, service.sync_mlflow(job_id, server.url))
    service.store.close()
    _hover(page, chart, name)
    page.get_by_role("link", name=re.compile(rf"^{name}\b")).first.click()
    command = page.locator("code", has_text="tightfit export").first
    command.wait_for()
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Plan", exact=True).click()
    popup.value.get_by_text(next(iter(plan))).first.wait_for()
    text = popup.value.locator("body").inner_text()
    assert json.loads(text[text.index("{") : text.rindex("}") + 1]) == plan
    with page.expect_popup() as popup:
        page.get_by_role("link", name=f"Report at {name}").click()
    popup.value.frame_locator("iframe").get_by_role("heading", name=re.compile(rf"^Plan {name}\b")).wait_for()
    words = shlex.split(command.inner_text())
    typed = [sys.executable, "-m", "tightfit", *words[1:]]
    done = subprocess.run(typed, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("verified")
    record = json.loads((tmp_path / "DIR" / "compression.json").read_text())
    assert (record["job"], record["point"], record["plan"]) == (job_id, name, plan)


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
    model = losses_from_facts(JobFacts(model=KeptLosses(sample_losses(sample))))
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
