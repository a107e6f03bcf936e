"""A running `tightfit serve` is attacked: jobs of others, HTML wherever people write, webhooks that lead elsewhere."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from space.errors import AccessError
from storage.people import new_token
from tests.browser.chromium import CHROMIUM, opened
from tests.end_to_end.jobs import open_service, small_spec
from tests.http.test_every_route import LISTS, sees_nothing
from tests.http.test_serve import serving, until
from tests.http.test_webhooks import Receiver, receiving
from tests.workers.tiny_models import make_tiny, write_text_file
from tightfit.http.callers import COOKIE
from tightfit.webhooks.signing import check_webhook

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
HTML = "<img src=x onerror=window.pwned=1>"
ANN = f"{HTML}ann"
_SECONDS = 1800.0


@dataclass
class Live:
    """A service that demands tokens, with all that a user may have: a finished job, an export, an upload, a webhook.

    Attributes:
        url: of the service.
        tokens: of `ann`, whose everything is, of `bea`, who is another user, and of `eve`, an administrator.
        ids: of what is ann's, by the names that the paths of the service have.
        secret: of ann's webhook.
        receiver: hears ann's news and answers with a redirect to `trap`.

    """

    url: str
    tokens: dict[str, str]
    ids: dict[str, str]
    secret: str
    receiver: Receiver
    trap: Receiver

    def ask(self, who: str, method: str, path: str, **options: Any) -> httpx2.Response:
        """Ask as somebody."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return httpx2.request(method, self.url + path, headers=headers, timeout=300, **options)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """Serve a home in which ann has done all that a user does, on a model whose folder has HTML for its name."""
    folder = tmp_path_factory.mktemp("live")
    model, text = make_tiny(folder / "models" / HTML, "tied"), write_text_file(folder / "models" / "text.txt")
    service, tokens = open_service(folder / "home"), dict[str, str]()
    for who, user, scope in (("ann", ANN, "submit"), ("bea", "bea", "submit"), ("eve", "eve", "admin")):
        token, tokens[who] = new_token(user, scope, datetime.now(UTC))
        service.store.create_token(token)
    service.store.close()
    options = ("--tokens", "--models", str(folder / "models"), "--webhook-host", "127.0.0.1", "--workers", "1")
    with receiving() as receiver, receiving() as trap, serving(folder / "home", *options) as (process, page):
        receiver.status, receiver.location = 302, trap.url
        found = Live(page.partition("/#")[0].rstrip("/"), tokens, {}, "", receiver, trap)
        _use(found, small_spec(model, text, max_trials=8).model_dump(mode="json"))
        yield found
        process.terminate()
        process.communicate(timeout=120)


def _use(live: Live, request: dict[str, Any]) -> None:
    """Do what a user does, to the end of a job."""

    def made(path: str, kept: str, **body: Any) -> dict[str, Any]:
        answer = live.ask("ann", "POST", path, json=body)
        assert answer.is_success, answer.text
        found: dict[str, Any] = answer.json()
        live.ids[kept] = found["task" if kept == "recovery" else kept]
        return found

    live.secret = made("/v1/webhooks", "webhook", url=live.receiver.url)["secret"]
    file = {"size_bytes": 10, "sha256": "0" * 64}
    made("/v1/uploads", "upload", name="m", files=[{"name": n, **file} for n in ("config.json", "a.safetensors")])
    job = made("/v1/jobs", "job", **request)["job"]
    told = {"label": HTML, "note": f"</script><script>window.pwned=1</script>{HTML}"}
    assert live.ask("ann", "PATCH", f"/v1/jobs/{job}", json=told).is_success
    until(lambda: live.ask("ann", "GET", f"/v1/jobs/{job}").json()["state"] == "DONE", _SECONDS)
    made(f"/v1/jobs/{job}/exports", "task", refit=False)
    made(f"/v1/jobs/{job}/recoveries", "recovery", method="refit", minutes=0.01)
    live.ids["point"] = live.ask("ann", "GET", f"/v1/jobs/{job}/front").json()["front"][0]["point"]


def test_what_is_anothers_is_not_there(live: Live) -> None:
    """Over every route, in the words of what nobody has; nothing of it changes, and no list has it."""
    job = f"/v1/jobs/{live.ids['job']}"
    quiet = [f"/v1/exports/{live.ids['task']}", f"/v1/recoveries/{live.ids['recovery']}"]
    until(lambda: all(live.ask("ann", "GET", path).json()["state"] not in ("QUEUED", "RUNNING") for path in quiet), 600)
    before = [live.ask("ann", "GET", path).json() for path in (job, *quiet)]
    sees_nothing(lambda *asked, **options: live.ask("bea", *asked, **options), live.ids)
    assert all(live.ask("ann", "GET", f"/v1/{name}").json()[name] for name in LISTS)
    assert not live.ask("bea", "GET", f"/v1/jobs?user={ANN}").json()["jobs"]
    assert live.ask("bea", "GET", "/v1/audit").status_code == 403
    assert [live.ask("ann", "GET", path).json() for path in (job, *quiet)] == before


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (apt-get install chromium)")
def test_html_is_text_wherever_people_write(live: Live) -> None:
    """Names of models and users, labels, notes: on page, report and MLflow none of it becomes a script."""
    job = live.ids["job"]
    search = "/mlflow/ajax-api/2.0/mlflow/experiments/search"

    def numbers() -> list[str]:
        answer = live.ask("eve", "POST", search, json={"max_results": 100})
        experiments = answer.json().get("experiments", []) if answer.is_success else []
        return [e["experiment_id"] for e in experiments if "onerror" in e["name"]]  # less `<`

    until(numbers, _SECONDS)  # MLflow takes a while to start, and what is delivered to it comes then
    (number,) = numbers()
    runs = live.ask(
        "eve", "POST", "/mlflow/ajax-api/2.0/mlflow/runs/search", json={"experiment_ids": [number], "max_results": 5}
    ).json()["runs"]
    places = ["/", "/#/new", f"/#/jobs/{job}", f"/v1/jobs/{job}/report", "/mlflow/#/experiments"]
    places += [f"/mlflow/#/experiments/{number}"]
    places += [f"/mlflow/#/experiments/{number}/runs/{run['info']['run_id']}" for run in runs]
    silent = ("/#/new", "/mlflow/#/experiments")
    with opened() as page:
        page.context.add_cookies([{"name": COOKIE, "value": live.tokens["eve"], "url": live.url}])
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
        seen = ""
        for place in places:
            page.goto("about:blank")
            page.goto(live.url + place)
            if place not in silent:
                page.locator("body").filter(has_text="window.pwned").wait_for(timeout=60_000)
            page.wait_for_timeout(3000)  # a stream of events stays open, so that its network is never idle
            for frame in page.frames:
                assert frame.evaluate("window.pwned") is None, place
                assert frame.locator("img[src=x]").count() == 0, place
            seen += page.locator("body").inner_text()
        assert f"of {ANN}" in seen
    sent = {"name": HTML, "files": [{"name": "config.json", "size_bytes": 1, "sha256": "0" * 64}]}
    assert live.ask("ann", "POST", "/v1/uploads", json=sent).status_code == 422


def test_webhooks_lead_nowhere_else(live: Live) -> None:
    """Not to this machine, its network or a cloud's keys, nor by a redirect; news that is sent again is refused."""
    for url in (
        *("http://localhost:1/", "http://[::1]:1/", "http://0.0.0.0:1/", "http://2130706433/", "http://0x7f.1/"),
        *("http://10.0.0.1/", "http://192.168.0.1/", "http://169.254.169.254/latest/meta-data", "http://[fd00::1]/"),
        *("http://[::ffff:10.0.0.1]/", "http://127.1.2.3/", f"http://127.0.0.2:{live.url.rpartition(':')[2]}/v1/jobs"),
    ):
        assert live.ask("ann", "POST", "/v1/webhooks", json={"url": url}).status_code == 403, url
    for url in ("file:///etc/passwd", "ftp://a.example/", "http://u:p@127.0.0.1/", "http://127.0.0.1/\r\nHost: a"):
        assert live.ask("ann", "POST", "/v1/webhooks", json={"url": url}).status_code == 422, url
    until(lambda: live.receiver.received)
    path = f"/v1/webhooks/{live.ids['webhook']}/deliveries"
    until(lambda: live.ask("ann", "GET", path).json()["deliveries"][0]["error"])
    (told,) = live.ask("ann", "GET", path).json()["deliveries"]
    assert told["error"] == "it answered 302"
    assert live.trap.received == []
    (headers, body), *_ = live.receiver.received
    now, seen = time.time(), set[str]()
    seen.add(check_webhook(live.secret, headers, body, now, seen))
    with pytest.raises(AccessError, match="received before"):
        check_webhook(live.secret, headers, body, now, seen)
    with pytest.raises(AccessError, match="signature is not"):
        check_webhook(live.secret, headers, body.replace(b"DONE", b"FAIL"), now)


def test_mlflow_is_behind_the_door(live: Live, tmp_path: Path) -> None:
    """Without a token, by a user, by a page of another site, with a path that leads out: nothing is told."""
    search = "/mlflow/ajax-api/2.0/mlflow/experiments/search"
    assert live.ask("", "GET", "/mlflow/").status_code == 401
    for method, path in (("GET", "/mlflow/"), ("POST", search), ("GET", "/mlflow/get-artifact?path=a&run_uuid=b")):
        assert live.ask("bea", method, path).status_code == 403, path
    for path in (
        "/mlflow/../../etc/passwd",
        "/mlflow/..%2f..%2fetc%2fpasswd",
        "/mlflow//127.0.0.1:1/",
        "/mlflow/@127.0.0.1:1/",
    ):
        answer = live.ask("eve", "GET", path)
        assert "root:" not in answer.text
        assert answer.status_code != 500, path
    headers = {"Authorization": f"Bearer {live.tokens['eve']}", "Origin": "http://evil.example"}
    assert httpx2.post(live.url + search, json={"max_results": 5}, headers=headers).status_code == 403
    assert not list(tmp_path.iterdir())
