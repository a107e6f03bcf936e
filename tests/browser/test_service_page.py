"""The service's page in a browser: submit, watch, choose, stop; a real service with finished jobs of a tiny model."""

import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from tests.browser.chromium import CHROMIUM, opened
from tests.end_to_end.jobs import PlainService, Quiet, open_service, run_job, small_spec
from tests.http.here import Here
from tests.workers.tiny_models import TinyKind
from tightfit.http.api import ApiOptions, create_app
from tightfit.http.callers import OpenGate
from workers.recover.distill import Course

if TYPE_CHECKING:
    from playwright.sync_api import Page

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")


@dataclass
class Site:
    """A service that listens, and a page of a browser that looks at it.

    Attributes:
        url: of the service.
        done: a finished job; `other` is one on the same model with another budget.
        requests: addresses that the browser asked for.
        complaints: what its console said.

    """

    url: str
    page: "Page"
    service: PlainService
    model: Path
    text: Path
    done: str
    other: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def go(self, place: str) -> None:
        """Open a place of the page anew."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{place}")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[TinyKind], Path], text_file: Path) -> Iterator[Site]:
    """Serve a home with two finished jobs, and look at it."""
    service, model = open_service(tmp_path_factory.mktemp("page") / "home"), tiny("tied")
    done, _ = run_job(service, small_spec(model, text_file, max_trials=20))
    other, _ = run_job(service, small_spec(model, text_file, max_trials=20, budget="40%"))
    options = ApiOptions(model_folders=(model.parent, text_file.parent))
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(create_app(service, OpenGate("ada"), options, Here(service)), log_level="warning", ws="none")
    )
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    sync_api.expect.set_options(timeout=60_000)
    with opened() as page:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        site = Site(url, page, service, model, text_file, done, other)
        page.on("request", lambda request: site.requests.append(request.url))
        page.on("pageerror", lambda error: site.complaints.append(str(error)))
        page.on("console", lambda said: site.complaints.append(said.text) if said.type == "error" else None)
        yield site
    server.should_exit = True
    thread.join(30)
    service.store.close()
    assert not thread.is_alive()


@pytest.fixture(autouse=True)
def calm(site: Site) -> Iterator[None]:
    """No script fails, the console says nothing, and only the service is asked."""
    site.page.set_viewport_size({"width": 1400, "height": 1000})
    yield
    assert site.complaints == []
    assert [url for url in site.requests if not url.startswith((site.url, "about:", "blob:"))] == []


def _submit(site: Site, **fields: Any) -> None:
    for name, value in fields.items():
        site.page.fill(f"#field-{name}", str(value))


def test_list_leads_to_a_job(site: Site) -> None:
    """Jobs with their state, budget, progress and best KL; a job's name leads to its front."""
    site.go("")
    row = site.page.locator(f"tr[data-key={site.done}]")
    job = site.service.store.get_job(site.done)
    assert job.document is not None
    assert job.document.recommended is not None
    sync_api.expect(row).to_contain_text("done")
    sync_api.expect(row).to_contain_text("4bpw")
    row.get_by_role("link", name=site.done).click()
    sync_api.expect(site.page.locator("#detail-title")).to_have_text(
        f"Plan {job.document.recommended.point} (recommended)"
    )


def test_form_answers_while_it_is_filled_in(site: Site) -> None:
    """The reachable range and the estimate; a budget that is too small and a model that is not there, in words."""
    site.go("#/new")
    answer = site.page.locator("#inspection")
    _submit(site, model=site.model, budget="60%", calibration=site.text)
    sync_api.expect(answer).to_contain_text("Reachable")
    sync_api.expect(answer).to_contain_text("60% of dense")
    _submit(site, budget="1KB")
    sync_api.expect(answer.get_by_role("alert")).to_contain_text("smallest")
    _submit(site, budget="60%", model=site.model / "missing")
    sync_api.expect(answer.get_by_role("alert")).to_contain_text("missing")
    site.complaints[:] = [text for text in site.complaints if "422" not in text]  # the browser notes refused requests


def test_a_preset_is_one_choice_in_the_form(site: Site) -> None:
    """It says what it is for, and the answer holds all that is asked with it."""
    site.go("#/new")
    site.page.select_option("#field-preset", "quick")
    _submit(site, model=site.model, budget="60%", calibration=site.text)
    sync_api.expect(site.page.locator("#field-preset-note")).to_contain_text("A first look")
    request = site.page.locator("#request")
    sync_api.expect(request).to_contain_text("max_trials100")
    sync_api.expect(request).to_contain_text("group_sizes64, channel")


def test_submitted_job_is_watched_to_its_front(site: Site) -> None:
    """From the form to the front, which grows while the page is open; nothing is loaded anew by hand."""
    site.go("#/new")
    spec = small_spec(site.model, site.text)
    _submit(site, model=site.model, budget="55%", calibration=site.text)
    site.page.get_by_text("More options").click()
    _submit(site, bits="4,8", group_sizes="32", sparsities="0", ranks="0", kinds="integer", max_trials=8, workers=1)
    site.page.get_by_role("button", name="Submit").click()
    site.page.wait_for_url("**/#/jobs/*")
    sync_api.expect(site.page.locator(".job-head .state")).to_have_text("queued")
    job_id = site.page.url.rpartition("/")[2]
    asked = site.service.store.get_job(job_id).spec
    assert (asked.bits, asked.group_sizes, asked.max_trials) == ((4, 8), (32,), 8)
    assert asked.target == spec.target
    worker = threading.Thread(target=lambda: site.service.run(job_id, Quiet(), inline=True))
    worker.start()
    sync_api.expect(site.page.locator(".job-head .state")).to_have_text("done")
    worker.join(120)
    sync_api.expect(site.page.locator("#detail-title")).to_contain_text("Plan p")


def test_stop_button_stops(site: Site) -> None:
    """A queued job is cancelled from the list."""
    job = site.service.submit(small_spec(site.model, site.text, max_trials=9, seed=5))
    site.go("")
    row = site.page.locator(f"tr[data-key={job.job_id}]")
    row.get_by_role("button", name=f"Stop {job.job_id}").click()
    sync_api.expect(row).to_contain_text("cancelled")
    assert site.service.store.get_job(job.job_id).state == "CANCELLED"


def test_address_of_a_point_can_be_passed_on(site: Site) -> None:
    """A link to a point opens it; choosing another one changes the address."""
    document = site.service.front(site.done)
    first, last = document.front[0].point, document.front[-1].point
    site.go(f"#/jobs/{site.done}/{first}")
    sync_api.expect(site.page.locator("#detail-title")).to_contain_text(f"Plan {first}")
    site.page.locator(f".wide [data-point={last}]").click()
    assert site.page.url.endswith(f"/{site.done}/{last}")


def test_front_of_another_job_is_laid_over(site: Site) -> None:
    """Jobs on the same model can be drawn into the chart, and taken out of it."""
    site.go(f"#/jobs/{site.done}")
    box = site.page.get_by_label(site.other)
    box.check()
    sync_api.expect(site.page.locator(".wide .other-front")).to_have_count(1)
    box.uncheck()
    sync_api.expect(site.page.locator(".wide .other-front")).to_have_count(0)


def test_point_is_tried(site: Site) -> None:
    """A prompt is answered by the chosen point and the dense model, which say how fast they are."""
    site.go(f"#/jobs/{site.done}")
    site.page.get_by_label("Prompt").fill("import os")
    site.page.get_by_label("at most").fill("8")
    site.page.get_by_role("button", name="Try p").click()
    for speed in site.page.locator(".answers small").all():
        sync_api.expect(speed).to_contain_text("8 tokens")
    assert all(box.inner_text() for box in site.page.locator(".answers pre").all())
    site.page.get_by_label("as a chat turn").check()
    site.page.get_by_role("button", name="Try p").click()
    sync_api.expect(site.page.locator(".talk [role=alert]")).to_contain_text("no chat template")
    site.complaints[:] = [text for text in site.complaints if "422" not in text]


def test_export_from_the_page_is_verified(site: Site) -> None:
    """Begun on the page, written by whoever works, verified, and its files can be downloaded there."""
    site.go(f"#/jobs/{site.done}")
    site.page.get_by_label("fit it once more").uncheck()
    site.page.get_by_role("button", name="Export p").click()
    line = site.page.locator(".tasks li").first
    sync_api.expect(line).to_contain_text("queued")
    worker = threading.Thread(target=lambda: site.service.serve(Quiet(), until_idle=True))
    worker.start()
    sync_api.expect(line).to_contain_text("verified: ", timeout=180_000)
    worker.join(120)
    line.get_by_role("button", name="Files").click()
    with site.page.expect_download() as download:
        line.get_by_role("link", name="config.json", exact=True).click()
    (task,) = site.service.tasks(site.done)
    assert Path(download.value.path()).read_bytes() == (Path(task.out) / "config.json").read_bytes()


def test_folder_is_sent_and_its_job_is_told_apart(site: Site) -> None:
    """A model's folder, stopped on the way and sent on; what people call its job, and note of it, finds it again."""
    page, sent = site.page, list[str]()
    site.go("#/new")
    page.on("request", lambda asked: sent.append(asked.url.partition("/files/")[2]) if asked.method == "PUT" else None)
    page.route("**/files/model.safetensors?*", lambda _: None)  # no answer comes
    page.set_input_files("#folder", str(site.model))
    sync_api.expect(page.locator("form")).to_contain_text("Sending model.safetensors")
    page.get_by_role("button", name="Stop the upload").click()
    sync_api.expect(page.locator("form [role=alert]")).to_contain_text("Choose the folder again, and it goes on")
    page.unroute_all()
    page.route("**/files/model.safetensors?*", lambda route: route.fulfill(status=503), times=1)  # an outage
    page.set_input_files("#folder", str(site.model))
    sync_api.expect(page.locator("#field-model")).to_have_value(re.compile("upload:u[0-9a-f]{12}"))
    names = [name.partition("?")[0] for name in sent]
    assert names.count("config.json") == 1
    assert names.count("model.safetensors") == 3
    _submit(site, budget="50%", calibration=site.text)
    page.get_by_text("Label and note").click()
    _submit(site, label="from a folder", note="Sent by the page\nin parts.")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url("**/#/jobs/*")
    sync_api.expect(page.locator(".job-head")).to_contain_text("from a folder")
    job = site.service.store.overview(page.url.rpartition("/")[2])
    site.service.cancel(job.job_id)
    assert (job.label, job.note) == ("from a folder", "Sent by the page\nin parts.")
    assert {path.name: path.read_bytes() for path in Path(job.model).iterdir()} == {
        path.name: path.read_bytes() for path in site.model.iterdir()
    }
    page.get_by_role("button", name="Label and note").click()
    page.get_by_label("Note").fill("")
    page.get_by_role("button", name="Save").click()
    sync_api.expect(page.locator(".job-head .note")).to_have_count(0)
    site.go("")
    page.get_by_label("Label").fill("a folder")
    sync_api.expect(page.locator("tbody tr")).to_have_count(1)
    sync_api.expect(page.locator("tbody tr")).to_contain_text("from a folder")
    site.complaints[:] = [text for text in site.complaints if "503" not in text]


def test_point_is_recovered_from_the_page(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begun on the page, made by whoever works; its point is there at once, and leads to its figures."""
    course = Course(steps=4, batch=4, learning_rate=5e-3, warmup=2, judge_every=2, checkpoint_seconds=0.0)
    monkeypatch.setattr("workers.recover.scale_training.SCALES_COURSE", course)
    monkeypatch.setattr("workers.recover.recovery.paired_interval", lambda *_: (-2.0, -1.0))
    recommended = site.service.front(site.other).recommended
    assert recommended is not None
    site.go(f"#/jobs/{site.other}/{recommended.point}")
    site.page.get_by_label("by:").select_option("scales")
    site.page.get_by_role("button", name=f"Recover {recommended.point}").click()
    line = site.page.locator(".tasks li", has_text="queued")
    sync_api.expect(line.get_by_role("button", name="Stop the recovery")).to_be_visible()
    worker = threading.Thread(target=lambda: site.service.serve(Quiet(), until_idle=True))
    worker.start()
    made = site.page.get_by_role("link", name=f"{recommended.point}-scales", exact=True)
    made.click(timeout=400_000)
    worker.join(120)
    sync_api.expect(site.page.locator("#detail-title")).to_contain_text(f"Plan {recommended.point}-scales")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("place", ["", "#/new", "#/jobs/{done}"])
def test_no_serious_fault_for_those_who_do_not_see_it(site: Site, place: str, scheme: Any) -> None:
    """axe-core finds nothing serious, in light and dark."""
    from axe_playwright_python.sync_playwright import Axe

    site.page.emulate_media(color_scheme=scheme)
    site.go(place.format(done=site.done))
    site.page.locator("h1").wait_for()
    if "jobs" in place:
        site.page.locator("#map td").first.wait_for()
    found = Axe().run(site.page).response["violations"]
    told = [(v["id"], [node["target"] for node in v["nodes"]]) for v in found if v["impact"] in ("serious", "critical")]
    assert told == []


@pytest.mark.parametrize("place", ["", "#/new", "#/jobs/{done}"])
def test_fits_a_phone(site: Site, place: str) -> None:
    """Nothing scrolls sideways at the width of a phone."""
    site.page.set_viewport_size({"width": 375, "height": 800})
    site.go(place.format(done=site.done))
    site.page.locator("h1").wait_for()
    if "jobs" in place:
        site.page.locator("#map td").first.wait_for()
    wide = "() => document.scrollingElement.scrollWidth - document.scrollingElement.clientWidth"
    assert site.page.evaluate(wide) <= 0


def test_page_is_small() -> None:
    """All of it, the report's parts too, is below 1 MB; it is far below."""
    from importlib.resources import files

    places = (files("tightfit.http").joinpath("page"), files("tightfit.report"))
    whole = [
        p.read_bytes()
        for place in places
        for p in place.iterdir()
        if p.is_file() and p.name.endswith(("js", "css", "html"))
    ]
    assert sum(map(len, whole)) < 150_000
