"""Every route that names something is asked by another user, and knows nothing of it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.http.conftest import Named, World
from tests.http.test_people import bearing
from tests.http.test_uploads import announcement
from tightfit.http.api import ApiOptions
from tightfit.http.callers import Caller, Scope
from tightfit.tasks.asked_recovery import RecoverWish

LISTS = ("jobs", "exports", "recoveries", "uploads", "webhooks")
_METHODS = {"get", "post", "put", "delete", "patch"}
_BODIES: dict[str, Any] = {"answers": {"prompt": "x"}, "{job}": {"label": "mine"}}


def sees_nothing(ask: Callable[..., Any], ids: Mapping[str, str]) -> None:
    """Ask every route that names something, with another user's names and with those of nobody: the same is answered.

    Args:
        ask: somebody's (method, path, options) -> answer.
        ids: another user's `job`, `task` (an export), `recovery`, `upload`, `webhook`, and a `point` of the job.

    """
    asked = 0
    for path, operations in ask("GET", "/v1/openapi.json").json()["paths"].items():
        if "{" not in path:
            continue
        theirs = {**ids, "name": "config.json"}
        if "recoveries/{" in path:
            theirs["task"] = ids["recovery"]
        nobodys = theirs | dict.fromkeys(("job", "task", "upload", "webhook"), "u000000")
        for method in operations.keys() & _METHODS:
            options: dict[str, Any] = {}
            if method in ("post", "patch"):
                options["json"] = _BODIES.get(path.rpartition("/")[2], {})
            elif method == "put":
                options["content"] = b"{"
            found = [ask(method.upper(), path.format(**names), **options) for names in (theirs, nobodys)]
            assert [answer.status_code for answer in found] == [404, 404], (method, path, found[0].text)
            words = found[0].json()["detail"]
            for kind in ("job", "task", "upload", "webhook"):
                words = words.replace(theirs[kind], "u000000")
            assert words == found[1].json()["detail"], (method, path)
            asked += 1
    assert asked > 30
    assert not any(ask("GET", f"/v1/{name}").json()[name] for name in LISTS)
    wanted = {"model": f"upload:{ids['upload']}", "budget": "60%"}
    assert [ask("POST", f"/v1/{path}", json=wanted).status_code for path in ("inspect", "jobs")] == [404, 404]


@pytest.fixture
def ids(world: World) -> Iterator[dict[str, str]]:
    """Give what a user has of each kind; none of it runs."""
    service, store = world.service, world.service.store
    whose = str(store.overview(world.done).user)
    tasks = [
        service.queue_export(world.done, service.settings.new_export_folder(world.done), user=whose),
        service.queue_recovery(world.done, RecoverWish(method="refit"), whose),
    ]
    for task in tasks:
        service.cancel_task(task.task_id)
    options = ApiOptions(webhook_hosts=["127.0.0.1"])
    client = world.client(Named(o=Caller(whose, Scope.SUBMIT)), options)
    client.headers = bearing("o")
    upload = client.post("/v1/uploads", json=announcement(world.model, "theirs")).json()["upload"]
    webhook = client.post("/v1/webhooks", json={"url": "http://127.0.0.1:9/"}).json()["webhook"]
    point = service.front(world.done).front[0].point
    found = {"job": world.done, "task": tasks[0].task_id, "recovery": tasks[1].task_id, "point": point}
    yield found | {"upload": upload, "webhook": webhook}
    assert client.delete(f"/v1/uploads/{upload}").status_code == 204
    assert client.delete(f"/v1/webhooks/{webhook}").status_code == 204


def test_what_is_anothers_is_not_there(world: World, ids: dict[str, str]) -> None:
    """Over every route, in the words of what nobody has; and nothing of it changes."""
    service = world.service
    before = [service.store.overview(world.done), *service.tasks(world.done)]
    with world.client(Named(b=Caller("bea", Scope.SUBMIT))) as client:
        client.headers = bearing("b")
        sees_nothing(client.request, ids)
    assert [service.store.overview(world.done), *service.tasks(world.done)] == before
