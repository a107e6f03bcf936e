"""What the service refuses: each with its status and what to do next, and nothing is made."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

import space.errors
from space.errors import TightfitError
from tests.http.conftest import Named, World
from tightfit.http.api import ApiOptions
from tightfit.http.callers import Caller, Scope
from tightfit.http.problems import MEDIA_TYPE, STATUS, problem_of, status_of

_JSON = {"content-type": "application/json"}


def refused(found: Any, status: int, words: str) -> None:
    """Check a problem."""
    assert (found.status_code, found.headers["content-type"]) == (status, MEDIA_TYPE), found.text
    problem = found.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:tightfit:")
    assert words in problem["detail"]


@pytest.fixture(autouse=True)
def nothing_is_made(world: World) -> Iterator[None]:
    """No job comes of what is refused."""

    def jobs() -> set[str]:
        return {found.job_id for found in world.service.store.list_overviews()} - {"jfresh", "jbobs"}

    before = jobs()
    yield
    assert jobs() == before


def test_every_error_has_a_status() -> None:
    """A kind of error says what it is by itself or by an ancestor, and users' faults are never the service's."""
    kinds = [v for v in vars(space.errors).values() if isinstance(v, type) and issubclass(v, TightfitError)]
    for kind in kinds:
        error = kind("what", "module") if kind is space.errors.LevelDamagedError else kind("what")
        assert (status_of(error) >= 500) == (
            not issubclass(kind, ValueError | KeyError | space.errors.InfeasibleBudgetError)
            and kind not in {k for k, status in STATUS.items() if status < 500}
            and not issubclass(kind, space.errors.StateError)
        )
    assert json.loads(bytes(problem_of(space.errors.InfeasibleBudgetError("x")).body))["type"] == (
        "urn:tightfit:infeasible-budget"
    )


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"budget": "four"}, "body.budget: Budget 'four' cannot be read"),
        ({"budget": "1%"}, "below the smallest plan"),
        ({"bits": [9]}, "body.bits: [9] cannot be searched"),
        ({"frobnicate": 1}, "body.frobnicate: Extra inputs are not permitted"),
        ({"pins": [["(", "b4-g32"]]}, "--pin"),
        ({"pins": [["q_proj", "b4-nonsense"]]}, "b4-nonsense"),
        ({"model": "/etc"}, "model '/etc': the service reads `bundled`"),
        ({"model": "../../etc"}, "the service reads"),
        ({"model": "file:///etc"}, "the service reads"),
        ({"model": "a\x00b"}, "the service reads"),
        ({"model": "~root"}, "the service reads"),
        ({"model": "org/name"}, "40 hexadecimal digits"),
        ({"model": "org/name@main"}, "40 hexadecimal digits"),
        ({"model": "org/name", "revision": "v1"}, "40 hexadecimal digits"),
        ({"calibration": "/etc/passwd"}, "calibration '/etc/passwd'"),
        ({"calibration": "wikitext"}, "calibration 'wikitext'"),
        ({"worker_memory": "lots"}, "body.worker_memory"),
        ({"context": -1}, "body.context"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/inspect", "/v1/jobs"])
def test_requests_that_cannot_be_met(
    world: World, client: TestClient, path: str, values: dict[str, Any], words: str
) -> None:
    """422, before and without a job."""
    refused(client.post(path, json=world.request() | values), 422, words)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/v1/jobs/nobody", 404, "There is no job 'nobody' of yours"),
        ("/v1/jobs/nobody/front", 404, "There is no job"),
        ("/v1/jobs/{done}/plans/p999", 404, "has no point 'p999'"),
        ("/v1/jobs/{done}/explanation?point=p999", 404, "has no point 'p999'"),
        ("/v1/jobs?limit=0", 422, "query.limit"),
        ("/v1/jobs?state=ASLEEP", 422, "query.state.0"),
        ("/v1/jobs?after=nobody", 404, "Begin without `after`"),
        ("/v1/jobs/{done}/trials?after=x", 422, "query.after"),
        ("/v2/jobs", 404, "/v1/openapi.json"),
    ],
)
def test_what_is_not_there(world: World, client: TestClient, path: str, status: int, words: str) -> None:
    """Each says what to do."""
    refused(client.get(path.format(done=world.done)), status, words)


def test_a_front_that_is_not_there_yet(world: World, client: TestClient) -> None:
    """Not now, but perhaps later."""
    job = world.service.store.create_job("jfresh", world.service.store.get_job(world.done).spec, "ada")
    refused(client.get(f"/v1/jobs/{job.job_id}/front"), 409, "has no front yet")
    world.service.store.request_cancel(job.job_id)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"model": "bundled", "model": "other"}', "it holds 'model' twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"max_minutes": NaN}', "no finite number"),
        (b'{"max_minutes": 1e999}', "no finite number"),
        (b'{"model": "\xff"}', "no JSON that can be used"),
        (b'{"model": "\\ud800"}', "half of a character"),
        (b"{", "no JSON that can be used"),
    ],
)
def test_bodies_that_are_no_json(client: TestClient, body: bytes, words: str) -> None:
    """Bombs and riddles are refused before anything reads them."""
    refused(client.post("/v1/jobs", content=body, headers=_JSON), 400, words)


def test_bodies_that_are_too_large(world: World) -> None:
    """By what they say of themselves, and by what comes."""
    with world.client(options=ApiOptions(max_body_bytes=100)) as client:
        refused(client.post("/v1/jobs", content=b" " * 101, headers=_JSON), 413, "larger than 100 B")
        refused(client.post("/v1/jobs", content=iter([b" " * 60] * 9), headers=_JSON), 413, "larger than 100 B")


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8642", "", "10.0.0.1:8642"])
def test_names_of_others_for_this_address(client: TestClient, host: str) -> None:
    """DNS rebinding: a browser that believes our address to be evil.example says so."""
    refused(client.get("/v1/jobs", headers={"host": host}), 403, "Use one of 127.0.0.1")


def test_names_that_were_allowed(world: World) -> None:
    """For whoever comes through a proxy."""
    with world.client(options=ApiOptions(allowed_hosts=("gpu7.lan",))) as client:
        assert client.get("/v1/jobs", headers={"host": "GPU7.lan:8642"}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites(world: World, client: TestClient, headers: dict[str, str]) -> None:
    """What they have a browser send changes nothing here."""
    refused(client.post(f"/v1/jobs/{world.done}/cancel", headers=headers), 403, "may not ask this service")
    ours = client.post(f"/v1/jobs/{world.done}/cancel", headers={"origin": "http://127.0.0.1:8642"})
    assert ours.json()["state"] == "DONE"


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        (b"seed = 1\nseed = 2", 400, "is no TOML that can be used (Cannot overwrite a value"),
        (b"a" + b".a" * 9000 + b" = 1", 400, "more than 1,000 dots"),
        (b"a = " + b"[" * 9000, 400, "nested too deeply"),
        (b"max_minutes = inf", 400, "Out of range float values"),
        (b"seed = [2020-01-01]", 400, "is a date or a time"),
        (b"a = '\xff'", 400, "is no TOML that can be used"),
        (b"modle = 1", 422, "body.modle: Extra inputs are not permitted"),
    ],
)
def test_toml_that_cannot_be_used(client: TestClient, text: bytes, status: int, words: str) -> None:
    """Within the bounds of JSON, and in the same words."""
    refused(client.post("/v1/jobs", content=text, headers={"content-type": "application/toml"}), status, words)


def test_links_that_lead_out(world: World, client: TestClient) -> None:
    """A folder in an allowed one may be a link to elsewhere, and so may a file in it."""
    inside = world.model.parent
    link, folder = inside / "link", inside / "folder"
    link.symlink_to("/etc")
    folder.mkdir()
    (folder / "config.json").symlink_to("/etc/passwd")
    try:
        refused(client.post("/v1/inspect", json=world.request() | {"model": str(link)}), 422, "the service reads")
        refused(client.post("/v1/inspect", json=world.request() | {"model": str(folder)}), 422, "a link that leads out")
    finally:
        link.unlink()
        (folder / "config.json").unlink()
        folder.rmdir()


def test_users_see_their_own(world: World) -> None:
    """Another user's job is not there, in the same words as one that nobody has; reading does not submit."""
    gate = Named(
        r=Caller("ada", Scope.READ),
        s=Caller("ada", Scope.SUBMIT),
        o=Caller("carl", Scope.SUBMIT),
        a=Caller("eve", Scope.ADMIN),
    )
    with world.client(gate) as client:

        def ask(token: str, method: str, path: str, **values: Any) -> Any:
            return client.request(method, path, headers={"authorization": f"Bearer {token}"}, **values)

        store = world.service.store
        job = store.create_job("jbobs", store.get_job(world.done).spec, "carl").job_id
        try:
            for path in ("", "/front", "/trials", "/spec", "/logs", "/report", "/explanation"):
                unseen = ask("s", "GET", f"/v1/jobs/{job}{path}")
                refused(unseen, 404, "of yours")
                assert unseen.json()["detail"].replace(job, "x") == (
                    ask("s", "GET", f"/v1/jobs/nobody{path}").json()["detail"].replace("nobody", "x")
                )
            refused(ask("s", "POST", f"/v1/jobs/{job}/cancel"), 404, "of yours")
            assert ask("o", "GET", f"/v1/jobs/{job}").status_code == 200
            assert ask("a", "GET", f"/v1/jobs/{job}").status_code == 200
            assert [j["job"] for j in ask("o", "GET", "/v1/jobs").json()["jobs"]] == [job]
            refused(ask("r", "POST", "/v1/jobs", json=world.request()), 403, "scope `submit`")
            refused(ask("r", "POST", "/v1/inspect", json=world.request()), 403, "scope `submit`")
        finally:
            store.request_cancel(job)


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "nonsense"])
def test_headers_that_hold_no_token(client: TestClient, header: str) -> None:
    """A token that cannot be read is not taken for none."""
    found = client.get("/v1/jobs", headers={"authorization": header})
    refused(found, 401, "Authorization: Bearer TOKEN")
    assert found.headers["www-authenticate"] == "Bearer"
