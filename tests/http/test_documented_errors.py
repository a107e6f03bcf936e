"""Every error that the OpenAPI document promises is answered by a request, with that status and as a problem."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from space.errors import OutageError, StoreError
from storage.leases.lease import host_name
from storage.people import new_token
from storage.point_tasks import TaskState
from tests.http.conftest import Named, World
from tests.http.here import Here
from tests.http.test_people import bearing
from tests.http.test_refusals_over_http import refused
from tests.http.test_uploads import announcement
from tightfit.http.admission.quotas import Quotas
from tightfit.http.api import ApiOptions
from tightfit.http.callers import Caller, Scope, TokenGate

Asked = tuple[str, str]
METHODS = ("get", "post", "put", "delete", "patch")
# Promised by a router for all of its operations, where these have no id, no input or no state that could be wrong.
NEVER = {
    *((operation, 404) for operation in [("GET", "/v1/exports"), ("GET", "/v1/uploads"), ("GET", "/v1/webhooks")]),
    *((operation, 404) for operation in [("POST", "/v1/uploads"), ("POST", "/v1/webhooks")]),
    *((("GET", path), 422) for path in ("/v1/exports", "/v1/me", "/v1/recoveries", "/v1/uploads", "/v1/webhooks")),
    (("POST", "/v1/jobs/{job}/resume"), 409),
    (("DELETE", "/v1/session"), 422),
    (("DELETE", "/v1/session"), 401),
    (("PUT", "/v1/uploads/{upload}/files/{name}"), 400),  # nobody reads the bytes of a part
}
READ_WITH_BODIES = {("PUT", "/v1/uploads/{upload}/files/{name}")}


@pytest.fixture
def documented(world: World) -> set[tuple[Asked, int]]:
    """Give all errors of all operations."""
    paths = world.client().app.openapi()["paths"]  # type: ignore[attr-defined]
    return {
        ((method.upper(), path), int(status))
        for path, operations in paths.items()
        for method, operation in operations.items()
        if method in METHODS
        for status in operation["responses"]
        if int(status) >= 400
    }


class Reproduced:
    """Asks for errors, and notes which came."""

    def __init__(self, world: World) -> None:
        self.world, self.found = world, set[tuple[Asked, int]]()

    def expect(self, client: TestClient, operation: Asked, status: int, **options: Any) -> Any:
        """Ask an operation of something, which is refused with a status."""
        names = {"job": self.world.done, "task": "none", "upload": "none", "webhook": "none", "point": "p1"}
        names |= {"name": "config.json"} | options.pop("names", {})
        path = options.pop("query", "")
        answer = client.request(operation[0], operation[1].format(**names) + path, **options)
        refused(answer, status, "") if status != 416 else None
        assert answer.status_code == status, (operation, answer.text)
        self.found.add((operation, status))
        return answer


@pytest.fixture
def asking(world: World) -> Iterator[Reproduced]:
    """Give who asks; what was made is stopped."""
    yield Reproduced(world)
    for found in world.service.store.list_overviews():
        if found.user == "doc" and not found.state.rests:
            world.service.store.request_cancel(found.job_id)
    for task in world.service.tasks():
        if task.user == "doc":
            world.service.cancel_task(task.task_id)


def test_each_is_reproduced(
    world: World, documented: set[tuple[Asked, int]], asking: Reproduced, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them, but for those that a router promises of an operation that has nothing to be wrong."""
    of_all(world, asking, documented)
    with world.client(Named(s=Caller("doc", Scope.SUBMIT), a=Caller("eve", Scope.ADMIN))) as client:
        client.headers = bearing("a")
        of_requests(asking, client)
        not_there(asking, client, documented)
        not_now(world, asking, client)
        out_of_reach(world, asking, client, monkeypatch)
    too_much(world, asking, monkeypatch)
    missing = documented - asking.found
    assert missing == NEVER
    assert asking.found <= documented


def of_all(world: World, asking: Reproduced, documented: set[tuple[Asked, int]]) -> None:
    """Foreign hosts, bodies that are too large or no JSON, no token: before any resource hears of it."""
    gate = TokenGate(world.service.store)
    client, small = world.client(gate), world.client(options=ApiOptions(max_body_bytes=100))
    token, secret = new_token("doc", "admin", datetime.now(UTC))
    world.service.store.create_token(token)
    large = {"content": b" " * 101, "headers": {"content-type": "application/json"}}
    for operation, status in sorted(documented):
        bodies = operation not in READ_WITH_BODIES
        if status == 403:
            asking.expect(client, operation, 403, headers={"host": "evil.example"})
        elif status == 400 and bodies:
            asking.expect(client, operation, 400, content=b"{", headers={"content-type": "application/json"})
        elif status == 413 and bodies:
            asking.expect(small, operation, 413, **large)
        elif status == 401 and operation == ("POST", "/v1/session"):
            asking.expect(client, operation, 401, json={"token": "tf_0_0"})
        elif status == 401 and (operation, 401) not in NEVER:
            asking.expect(client, operation, 401)
    world.service.store.revoke_token(token.token_id)
    revoked = {"headers": {"authorization": f"Bearer {secret}"}}
    asking.expect(client, ("GET", "/v1/me"), 401, **revoked)


def of_requests(asking: Reproduced, client: TestClient) -> None:
    """422: fields that nobody knows, numbers out of range, ids that are too long."""
    odd = {"frobnicate": 1}
    for path in ("inspect", "jobs", "uploads", "webhooks", "session"):
        asking.expect(client, ("POST", f"/v1/{path}"), 422, json=odd)
    for verb in ("answers", "again", "exports", "recoveries"):
        asking.expect(client, ("POST", f"/v1/jobs/{{job}}/{verb}"), 422, json={"budget": 1})
    asking.expect(client, ("PATCH", "/v1/jobs/{job}"), 422, json=odd)
    for path in ("audit", "jobs", "jobs/{job}/trials"):
        asking.expect(client, ("GET", f"/v1/{path}"), 422, query="?limit=0")
    asking.expect(client, ("GET", "/v1/jobs/{job}/front"), 422, query="?format=xml")
    long = dict.fromkeys(("job", "task", "upload", "webhook"), "x" * 101)
    for rest in (
        "",
        "/events",
        "/explanation",
        "/exports",
        "/logs",
        "/plans/{point}",
        "/recoveries",
        "/report",
        "/spec",
    ):
        asking.expect(client, ("GET", f"/v1/jobs/{{job}}{rest}"), 422, names=long)
    for verb in ("cancel", "pause", "resume"):
        asking.expect(client, ("POST", f"/v1/jobs/{{job}}/{verb}"), 422, names=long)
    asking.expect(client, ("DELETE", "/v1/jobs/{job}"), 422, names=long)
    for kind in ("exports", "recoveries"):
        asking.expect(client, ("GET", f"/v1/{kind}/{{task}}"), 422, names=long)
        for verb in ("cancel", "resume"):
            asking.expect(client, ("POST", f"/v1/{kind}/{{task}}/{verb}"), 422, names=long)
    asking.expect(client, ("GET", "/v1/exports/{task}/files"), 422, names=long)
    asking.expect(client, ("GET", "/v1/exports/{task}/files/{name}"), 422, names=long)
    asking.expect(client, ("DELETE", "/v1/exports/{task}/files"), 422, names=long)
    for method, path in (("GET", "/v1/uploads/{upload}"), ("DELETE", "/v1/uploads/{upload}")):
        asking.expect(client, (method, path), 422, names=long)
    asking.expect(client, ("PUT", "/v1/uploads/{upload}/files/{name}"), 422, names=long)
    asking.expect(client, ("DELETE", "/v1/webhooks/{webhook}"), 422, names=long)
    asking.expect(client, ("GET", "/v1/webhooks/{webhook}/deliveries"), 422, names=long)


def not_there(asking: Reproduced, client: TestClient, documented: set[tuple[Asked, int]]) -> None:
    """404: ids that nobody has."""
    gone = {"names": {"job": "none", "point": "p999"}}
    bodies: dict[str, Any] = {"/v1/jobs/{job}/answers": {"prompt": "x"}}
    for operation, status in sorted(documented):
        method, path = operation
        if status == 404 and "{" in path:
            body = bodies.get(path, {}) if method in ("POST", "PATCH") else None
            asking.expect(client, operation, 404, **gone, **({} if body is None else {"json": body}))
    missing = {"json": asking.world.request() | {"model": "upload:u000000000000"}}
    for path in ("/v1/jobs", "/v1/inspect"):
        asking.expect(client, ("POST", path), 404, **missing)
    asking.expect(client, ("GET", "/v1/jobs"), 404, query="?after=none")


def not_now(world: World, asking: Reproduced, client: TestClient) -> None:
    """409: fronts that are not there yet, tasks and uploads that are not whole, jobs that still run."""
    store = world.service.store
    store.create_job("jdoc", store.glance(world.done).spec, "doc")
    fresh = {"names": {"job": "jdoc"}}
    for rest in ("front", "explanation", "plans/{point}", "report"):
        asking.expect(client, ("GET", f"/v1/jobs/{{job}}/{rest}"), 409, **fresh)
    for rest, body in (("exports", {}), ("recoveries", {}), ("answers", {"prompt": "x"})):
        asking.expect(client, ("POST", f"/v1/jobs/{{job}}/{rest}"), 409, json=body, **fresh)
    asking.expect(client, ("DELETE", "/v1/jobs/{job}"), 409, **fresh)
    task = world.service.queue_export(world.done, world.service.settings.new_export_folder(world.done), user="doc")
    named = {"names": {"task": task.task_id}}
    for method, path in (("GET", ""), ("GET", "/{name}"), ("DELETE", "")):
        asking.expect(client, (method, f"/v1/exports/{{task}}/files{path}"), 409, **named)
    half = client.post("/v1/uploads", json=announcement(world.model, "doc")).json()
    begun = {"names": {"upload": half["upload"]}}
    part = ("PUT", "/v1/uploads/{upload}/files/{name}")
    asking.expect(client, part, 409, content=b"{", query="?offset=1", **begun)
    asking.expect(client, part, 413, content=b" " * (half["size_bytes"] + 1), **begun)
    asked = world.request() | {"model": half["model"]}
    for path in ("/v1/jobs", "/v1/inspect"):
        asking.expect(client, ("POST", path), 409, json=asked)
    folder = world.service.settings.uploads_folder / half["upload"]
    of_upload = store.glance(world.done).spec.model_copy(update={"model": str(folder / half["name"])})
    store.create_job("jupload", of_upload, "doc")
    asking.expect(client, ("DELETE", "/v1/uploads/{upload}"), 409, **begun)
    asking.expect(client, ("POST", "/v1/jobs/{job}/again"), 409, json={"model": half["model"]})
    store.request_cancel("jupload")
    assert client.delete(f"/v1/uploads/{half['upload']}").status_code == 204


def out_of_reach(world: World, asking: Reproduced, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """416, 500 and 503: parts that no file has, a database that is away or holds what it should not."""
    store = world.service.store
    task = world.service.queue_export(world.done, world.service.settings.new_export_folder(world.done), user="doc")
    lease = store.claim_task("doc", host_name(), task.task_id)
    assert lease is not None
    Path(task.out).mkdir(parents=True)
    (Path(task.out) / "config.json").write_text("{}")
    store.holding(lease).set_task_state(task.task_id, TaskState.DONE)
    file, named = ("GET", "/v1/exports/{task}/files/{name}"), {"names": {"task": task.task_id}}
    asking.expect(client, file, 416, headers={"range": "bytes=100-"}, **named)
    assert client.delete(f"/v1/exports/{task.task_id}/files").status_code == 204
    state = client.app.state  # type: ignore[attr-defined]
    for error, status in ((StoreError("made elsewhere"), 500), (OutageError("away"), 503)):
        with monkeypatch.context() as patched:
            patched.setattr(store, "list_jobs", raising(error))
            asking.expect(client, ("GET", "/readyz"), status)
    with monkeypatch.context() as patched:
        patched.setattr(Here, "submit", raising(OutageError("away")))
        asking.expect(client, ("POST", "/v1/jobs"), 503, json=world.request())
        asking.expect(client, ("POST", "/v1/jobs/{job}/again"), 503, json={})
        patched.setattr(state.tryouts, "pieces", raising(StoreError("a level has gone")))
        asking.expect(client, ("POST", "/v1/jobs/{job}/answers"), 500, json={"prompt": "x"})


def raising(error: Exception) -> Callable[..., Any]:
    """Return a verb that ends in an error."""

    def verb(*_: Any, **__: Any) -> Any:
        raise error

    return verb


def too_much(world: World, asking: Reproduced, monkeypatch: pytest.MonkeyPatch) -> None:
    """429: more jobs, bytes, webhooks, streams than one may have."""
    whose = world.service.store.overview(world.done).user
    folders = (world.model.parent, world.text.parent)
    options = ApiOptions(model_folders=folders, quotas=Quotas(jobs=0, disk_bytes=0))
    with world.client(Named(s=Caller(whose, Scope.SUBMIT)), options) as client:
        client.headers = bearing("s")
        asking.expect(client, ("POST", "/v1/jobs"), 429, json=world.request(seed=77))
        asking.expect(client, ("POST", "/v1/jobs/{job}/again"), 429, json={"seed": 77})
        asking.expect(client, ("POST", "/v1/jobs/{job}/exports"), 429, json={})
        asking.expect(client, ("POST", "/v1/uploads"), 429, json=announcement(world.model, "doc"))
        monkeypatch.setattr("tightfit.http.routes.webhook_routes._MOST", 0)
        monkeypatch.setattr("tightfit.webhooks.destinations.Destinations.check", lambda _, url: url)
        asking.expect(client, ("POST", "/v1/webhooks"), 429, json={"url": "https://a.example"})
        monkeypatch.setattr("tightfit.http.event_streams.MAX_STREAMS", 0)
        asking.expect(client, ("GET", "/v1/jobs/{job}/events"), 429)
        monkeypatch.setattr("tightfit.http.apart.tryouts._TURN_SECONDS", 0.0)
        with client.app.state.tryouts._lock:  # type: ignore[attr-defined]
            asking.expect(client, ("POST", "/v1/jobs/{job}/answers"), 429, json={"prompt": "x"})
