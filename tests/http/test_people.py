"""People over HTTP: tokens, sessions of browsers, keys of requests, quotas, the audit."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from storage.people import new_token
from tests.http.conftest import ADDRESS, Named, World
from tests.http.test_refusals_over_http import refused
from tightfit.cli.app import app as command_line
from tightfit.http.admission.quotas import Quotas
from tightfit.http.api import ApiOptions
from tightfit.http.callers import COOKIE, Caller, Scope, TokenGate

Make = Callable[..., str]


@pytest.fixture
def token(world: World) -> Iterator[Make]:
    """Give what makes tokens, which are gone afterwards."""
    made: list[str] = []

    def make(user: str, scope: str = "submit", **age: float) -> str:
        now = datetime.now(UTC)
        found, text = new_token(user, scope, now, now + timedelta(**age) if age else None)
        world.service.store.create_token(found)
        made.append(found.token_id)
        return text

    yield make
    for token_id in {found.token_id for found in world.service.store.list_tokens()} & set(made):
        world.service.store.revoke_token(token_id)


@pytest.fixture
def guarded(world: World) -> Iterator[TestClient]:
    """Give who asks an application that demands tokens."""
    with world.client(TokenGate(world.service.store)) as client:
        yield client


def bearing(text: str) -> dict[str, str]:
    """Return the header of a token."""
    return {"authorization": f"Bearer {text}"}


def test_without_a_good_token_nothing_is_told(world: World, guarded: TestClient, token: Make) -> None:
    """None, a wrong, an old and a revoked one: the same words for all that are no good; health is for everybody."""
    good, old = token("ann", "admin"), token("ann", "admin", seconds=-1)
    paths = [path for path in guarded.app.openapi()["paths"] if "{" not in path]  # type: ignore[attr-defined]
    assert len(paths) > 5
    for path in set(paths) - {"/healthz", "/readyz", "/v1/session", "/v1/inspect"}:
        refused(guarded.get(path), 401, "needs a token")
    refused(guarded.post("/v1/inspect", json=world.request()), 401, "needs a token")
    words = {guarded.get("/v1/me", headers=bearing(text)).json()["detail"] for text in (old, good[:-1], "tf_x_y", "x")}
    assert len(words) == 1
    refused(guarded.get("/v1/me", headers=bearing(old)), 401, "not good")
    assert guarded.get("/v1/me", headers=bearing(good)).json()["user"] == "ann"
    world.service.store.revoke_token(good.split("_")[1])
    refused(guarded.get("/v1/me", headers=bearing(good)), 401, "not good")


def test_jobs_are_of_who_submits_them(world: World, guarded: TestClient, token: Make) -> None:
    """The same request of two users is two jobs, and each sees one of them."""
    ann, bob = bearing(token("ann")), bearing(token("bea"))
    jobs = [
        guarded.post("/v1/jobs", json=world.request(budget="6bpw"), headers=who).json()["job"]
        for who in (ann, bob, ann)
    ]
    assert jobs[0] == jobs[2] != jobs[1]
    for who, theirs, others in ((ann, jobs[0], jobs[1]), (bob, jobs[1], jobs[0])):
        assert [found["job"] for found in guarded.get("/v1/jobs", headers=who).json()["jobs"]] == [theirs]
        refused(guarded.post(f"/v1/jobs/{others}/cancel", headers=who), 404, "of yours")
        refused(guarded.post(f"/v1/jobs/{others}/again", json={}, headers=who), 404, "of yours")
        assert guarded.post(f"/v1/jobs/{theirs}/cancel", headers=who).json()["state"] == "CANCELLED"


def test_a_browser_holds_its_token_safely(world: World, guarded: TestClient, token: Make) -> None:
    """No script reads the cookie, no other site's page sends it, and who signs out has none."""
    text = token("ann")
    refused(guarded.post("/v1/session", json={"token": "tf_0_0"}), 401, "not good")
    assert not guarded.cookies
    answer = guarded.post("/v1/session", json={"token": text})
    assert answer.json() == {"user": "ann", "scope": "submit", "token": text.split("_")[1]}
    told = answer.headers["set-cookie"].lower()
    assert all(word in told for word in ("httponly", "samesite=strict", "max-age=43200"))
    assert "secure" not in told
    behind_proxy = {"origin": ADDRESS.replace("http:", "https:")}  # TLS ends there
    assert (
        "; secure"
        in guarded.post("/v1/session", json={"token": text}, headers=behind_proxy).headers["set-cookie"].lower()
    )
    guarded.cookies.clear()
    assert guarded.post("/v1/session", json={"token": text}).is_success
    assert guarded.get("/v1/me").json()["user"] == "ann"
    refused(
        guarded.post("/v1/inspect", json=world.request(), headers={"origin": "http://evil.example"}), 403, "A page of"
    )
    other = bearing(token("bea"))  # what is said beats what is held
    assert guarded.get("/v1/me", headers=other).json()["user"] == "bea"
    guarded.delete("/v1/session")
    refused(guarded.get("/v1/me"), 401, "needs a token")
    with TestClient(guarded.app, base_url=ADDRESS.replace("http:", "https:")) as client:
        assert "; secure" in client.post("/v1/session", json={"token": text}).headers["set-cookie"].lower()
        assert COOKIE in client.cookies


def test_no_address_writes_a_line_of_the_log(guarded: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """Line breaks in it are shown, not written: nobody can make the log say what did not happen."""
    with caplog.at_level("WARNING", "tightfit.audit"):
        refused(guarded.get("/v1/jobs/a%0d%0aPOST%20evil%20from%20127.0.0.1:%20200"), 401, "needs a token")
    told = [record.getMessage() for record in caplog.records if record.name == "tightfit.audit"]
    assert len(told) == 1
    assert "a\\r\\nPOST evil" in told[0]
    assert told[0].isprintable()


def test_a_key_stands_for_one_request(world: World, client: TestClient) -> None:
    """Sent again it gives the same job, even where another one was wanted; another request under it is refused."""
    key, request = {"idempotency-key": "k-1"}, world.request(budget="6.5bpw")
    first = client.post("/v1/jobs?anew=true", json=request, headers=key).json()["job"]
    assert client.post("/v1/jobs?anew=true", json=request, headers=key).json()["job"] == first
    assert client.post("/v1/jobs?anew=true", json=request).json()["job"] != first
    refused(
        client.post("/v1/jobs", json=request | {"budget": "6.6bpw"}, headers=key), 422, "was used for another request"
    )
    refused(client.post("/v1/jobs", json=request, headers={"idempotency-key": "k" * 101}), 422, "header")


def at_once(ask: Callable[[], Any], count: int) -> list[Any]:
    """Ask in so many threads at the same moment."""
    ready = Barrier(count)

    def wait_and_ask(_: int) -> Any:
        ready.wait()
        return ask()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(wait_and_ask, range(count)))


def test_fifty_identical_submits_are_one_job(world: World, client: TestClient) -> None:
    """However they come."""
    before = len(world.service.store.list_overviews())
    found = at_once(lambda: client.post("/v1/jobs", json=world.request(budget="6.7bpw")), 50)
    assert {answer.status_code for answer in found} == {202}
    assert len({answer.json()["job"] for answer in found}) == 1
    assert len(world.service.store.list_overviews()) == before + 1


def test_nobody_has_more_jobs_than_may_be_had(world: World) -> None:
    """Also where they come at once; administrators have no limit, and a job that ended makes room."""
    gate = Named(q=Caller("quentin", Scope.SUBMIT), a=Caller("quentin", Scope.ADMIN))
    with world.client(
        gate, ApiOptions(quotas=Quotas(jobs=2), model_folders=(world.model.parent, world.text.parent))
    ) as client:

        def submit(who: str = "q") -> Any:
            return client.post("/v1/jobs?anew=true", json=world.request(), headers=bearing(who))

        found = at_once(submit, 6)
        assert sorted(answer.status_code for answer in found) == [202, 202, 429, 429, 429, 429]
        over = next(answer for answer in found if answer.status_code == 429)
        refused(over, 429, "quentin has 2 jobs that wait, run or are paused, and may have 2")
        assert over.headers["retry-after"] == "60"
        assert submit("a").status_code == 202
        for job in client.get("/v1/jobs", headers=bearing("q")).json()["jobs"][:2]:
            client.post(f"/v1/jobs/{job['job']}/cancel", headers=bearing("q"))
        assert submit().status_code == 202


def test_the_audit_tells_who_asked_for_what(world: World, guarded: TestClient, token: Make) -> None:
    """Also what was refused of somebody who is known; strangers fill no database; for administrators alone."""
    ann, root = token("ann", "read"), token("root", "admin")
    start = guarded.get("/v1/audit?limit=1000", headers=bearing(root)).json()["next"]
    guarded.get("/v1/me", headers=bearing(ann))
    refused(guarded.post(f"/v1/jobs/{world.done}/cancel", headers=bearing(ann)), 403, "scope `submit`")
    guarded.post(f"/v1/jobs/{world.done}/cancel", headers=bearing(root))
    refused(guarded.post("/v1/jobs", json={}), 401, "needs a token")
    refused(guarded.get("/v1/audit", headers=bearing(ann)), 403, "scope `admin`")
    told = guarded.get(f"/v1/audit?after={start}", headers=bearing(root))
    path = f"/v1/jobs/{world.done}/cancel"
    assert [(e["user"], e["action"], e["subject"], e["status"]) for e in told.json()["entries"]] == [
        ("ann", "POST /v1/jobs/{job}/cancel", path, 403),
        ("root", "POST /v1/jobs/{job}/cancel", path, 200),
        ("ann", "GET /v1/audit", "/v1/audit", 403),
    ]
    assert told.json()["entries"][0]["token"] == ann.split("_")[1]
    assert ann.split("_", 2)[2] not in told.text
    assert told.json()["next"] == start + 3


def test_tokens_are_made_listed_and_revoked_by_commands(world: World, guarded: TestClient) -> None:
    """The text is shown once, and opens the service until it is revoked."""

    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(command_line, ["token", *arguments, "--home", str(world.service.settings.home)])
        assert done.exit_code == code, done.output
        return done.stdout.strip()

    text = run("add", "eve", "--scope", "read", "--days", "1")
    assert guarded.get("/v1/me", headers=bearing(text)).json()["scope"] == "read"
    token_id, secret = text.split("_", 2)[1:]
    listed = run("list")
    assert f"{token_id}  read    eve  until 20" in listed
    assert secret not in listed
    assert run("revoke", token_id) == f"Token {token_id} is revoked."
    refused(guarded.get("/v1/me", headers=bearing(text)), 401, "not good")
    run("revoke", token_id, code=1)
    run("add", "eve", "--scope", "root", code=1)
