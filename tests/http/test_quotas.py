"""What each user may have: jobs and workers at a time, minutes a day, disk; and whose turn it is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from storage.job_summary import Summary
from storage.records import JobState
from tests.http.conftest import Named, World
from tests.http.test_people import at_once, bearing
from tests.http.test_refusals_over_http import refused
from tests.http.test_uploads import announcement
from tightfit.http.admission.quotas import Quotas
from tightfit.http.api import ApiOptions
from tightfit.http.callers import Caller, Scope
from tightfit.uploads.announced import is_accepted


def asking(world: World, user: str, **most: int) -> TestClient:
    """Return who asks for a user with quotas, as `s`, and for an administrator of the same name, as `a`."""
    gate = Named(s=Caller(user, Scope.SUBMIT), a=Caller(user, Scope.ADMIN))
    folders = (world.model.parent, world.text.parent)
    return world.client(gate, ApiOptions(quotas=Quotas(**most), model_folders=folders))


def submit(client: TestClient, world: World, who: str = "s", **values: Any) -> Any:
    """Submit another job."""
    return client.post("/v1/jobs?anew=true", json=world.request(**values), headers=bearing(who))


def test_workers_of_all_jobs_together(world: World) -> None:
    """Also at once; one that ended gives its own back."""
    client = asking(world, "wanda", workers=5)
    found = at_once(lambda: submit(client, world, workers=2), 5)
    assert sorted(answer.status_code for answer in found) == [202, 202, 429, 429, 429]
    refused(submit(client, world, workers=2), 429, "wanda's jobs have 4 workers, and may have 5 together")
    assert submit(client, world, workers=1).status_code == 202
    assert submit(client, world, "a", workers=2).status_code == 202
    first = next(answer for answer in found if answer.status_code == 202).json()["job"]
    client.post(f"/v1/jobs/{first}/cancel", headers=bearing("a"))
    refused(submit(client, world, workers=1), 429, "may have 5 together")  # the administrator's are of the same user


def test_minutes_of_a_day(world: World) -> None:
    """What jobs may yet take counts until they ended; then what they took, for 24 hours."""
    client, store = asking(world, "minna", minutes=60), world.service.store
    refused(submit(client, world), 429, "`max_minutes` of at most 60, and this one has none")
    refused(submit(client, world, max_minutes=61), 429, "this one has 61")
    job = submit(client, world, max_minutes=40).json()["job"]
    refused(submit(client, world, max_minutes=30), 429, "took or may take 40 of 60 minutes")
    store.set_job_state(job, JobState.RUNNING)
    store.put_summary(job, Summary(datetime.now(UTC), elapsed_seconds=600.0))
    refused(submit(client, world, max_minutes=30), 429, "may take 40")
    store.set_job_state(job, JobState.DONE)
    assert submit(client, world, max_minutes=50).status_code == 202
    refused(submit(client, world, max_minutes=1), 429, "may take 60 of 60 minutes")
    assert submit(client, world, "a").status_code == 202


def test_minutes_are_forgotten_after_a_day(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of jobs that ended."""
    client, store = asking(world, "mona", minutes=60), world.service.store
    job = submit(client, world, max_minutes=60).json()["job"]
    store.set_job_state(job, JobState.RUNNING)
    store.put_summary(job, Summary(datetime.now(UTC), elapsed_seconds=3600.0))
    store.set_job_state(job, JobState.DONE)
    refused(submit(client, world, max_minutes=1), 429, "may take 60 of 60")
    found = store.page_overviews
    yesterday = datetime.now(UTC) - timedelta(days=1, minutes=1)

    def aged(*asked: Any) -> tuple[list[Any], int]:
        page, total = found(*asked)
        return [replace(o, finished_at=yesterday) if o.job_id == job else o for o in page], total

    monkeypatch.setattr(store, "page_overviews", aged)
    assert submit(client, world, max_minutes=60).status_code == 202


def test_disk_of_uploads_and_exports(world: World, tmp_path: Path) -> None:
    """What was announced counts at once; what was written, too; what was deleted no more."""
    for path in world.model.iterdir():
        if is_accepted(path.name):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    client = asking(world, "dora", disk_bytes=size + 100)
    begun = client.post("/v1/uploads", json=announcement(tmp_path), headers=bearing("s"))
    assert begun.status_code == 201
    assert client.post("/v1/uploads", json=announcement(tmp_path), headers=bearing("s")).status_code == 200
    more = announcement(tmp_path, name="more")
    refused(client.post("/v1/uploads", json=more, headers=bearing("s")), 429, "dora's uploads take")
    store, done = world.service.store, world.service.store.get_job(world.done)
    assert done.document is not None
    store.create_job("jdora", done.spec, "dora")
    store.update_job("jdora", document=replace(done.document, job="jdora"))
    refused(client.post("/v1/jobs/jdora/exports", json={}, headers=bearing("s")), 429, "Delete some")
    assert client.delete(begun.headers["location"], headers=bearing("s")).status_code == 204
    assert client.post("/v1/uploads", json=more, headers=bearing("s")).status_code == 201


def test_two_users_of_twenty_jobs_each(world: World) -> None:
    """Their turns alternate, whoever came first; and neither gets more than a quota allows."""
    gate = Named(x=Caller("xena", Scope.SUBMIT), y=Caller("yuri", Scope.SUBMIT))
    folders = (world.model.parent, world.text.parent)
    client = world.client(gate, ApiOptions(quotas=Quotas(jobs=20), model_folders=folders))
    store = world.service.store
    for waiting in store.list_jobs([JobState.QUEUED]):
        store.request_cancel(waiting.job_id)
    for user in "xy":
        codes = [submit(client, world, user).status_code for _ in range(21)]
        assert codes == [202] * 20 + [429]
    turns = []
    while (lease := store.claim_job("here")) is not None:
        turns.append(store.glance(lease.job_id).user)
        store.holding(lease).set_job_state(lease.job_id, JobState.DONE)
    assert turns == ["xena", "yuri"] * 20


def test_jobs_are_named_and_found(world: World) -> None:
    """By a label and a note, each set alone; another user's are left alone."""
    client = asking(world, "lena")
    job = submit(client, world).json()["job"]
    path, who = f"/v1/jobs/{job}", bearing("s")
    assert (
        client.patch(path, json={"label": "phone", "note": "the <b>second</b> try"}, headers=who).json()["label"]
        == "phone"
    )
    assert client.patch(path, json={"label": "tablet"}, headers=who).json()["note"] == "the <b>second</b> try"
    found = client.get("/v1/jobs", params={"label": "tab", "state": "QUEUED"}, headers=who).json()["jobs"]
    assert [told["job"] for told in found] == [job]
    assert client.get("/v1/jobs", params={"label": "phone"}, headers=who).json()["total"] == 0
    assert client.patch(path, json={"note": None}, headers=who).json()["note"] is None
    refused(client.patch(path, json={"label": "x" * 101}, headers=who), 422, "body.label")
    refused(client.patch(path, json={"state": "DONE"}, headers=who), 422, "body.state")
    refused(client.patch(f"/v1/jobs/{world.done}", json={"label": "mine"}, headers=who), 404, "of yours")
    client.post(f"{path}/cancel", headers=who)
