"""Exports over HTTP: queued, done by whoever works, given away in parts, and gone with their job."""

import base64
import hashlib
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from storage.records import JobState
from tests.http.conftest import Named, World
from tests.http.test_people import bearing
from tests.http.test_refusals_over_http import refused
from tightfit.http.callers import Caller, Scope


@pytest.mark.usefixtures("reload_here")
def test_a_point_is_exported_and_its_files_are_given_away(world: World, client: TestClient) -> None:
    """From the request to bytes that are those on disk: whole, in parts, and with the digest that was verified."""
    point = world.service.front(world.done).front[0].point
    asked = client.post(f"/v1/jobs/{world.done}/exports", json={"point": point, "refit": False})
    path, task = asked.headers["location"], asked.json()
    assert (asked.status_code, task["state"], task["user"], task["point"]) == (202, "QUEUED", "ada", point)
    assert client.get(path).json() == task == client.get(f"/v1/jobs/{world.done}/exports").json()["exports"][0]
    refused(client.get(f"{path}/files"), 409, "is QUEUED; its files are there once it is DONE")
    world.service.run_export(task["task"])
    found = client.get(path).json()
    assert (found["state"], found["share_done"], found["result"]["verified"]) == ("DONE", 1.0, True)
    files = {file["name"]: file for file in client.get(f"{path}/files").json()["files"]}
    assert {"config.json", "model.safetensors", "compression.json"} <= files.keys()
    weights = (Path(found["out"]) / "model.safetensors").read_bytes()
    whole = client.get(f"{path}/files/model.safetensors")
    assert whole.content == weights
    sha256 = hashlib.sha256(weights).hexdigest()
    assert files["model.safetensors"] == {"name": "model.safetensors", "size_bytes": len(weights), "sha256": sha256}
    assert whole.headers["repr-digest"] == f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"
    part = client.get(f"{path}/files/model.safetensors", headers={"range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, weights[100:200])
    rest = {"range": f"bytes=100-{len(weights)}", "if-range": whole.headers["etag"]}
    assert client.get(f"{path}/files/model.safetensors", headers=rest).content == weights[100:]
    for name in ("nothing", "%2e%2e%2fconfig.json", "..%2f..%2ftightfit.db"):
        assert client.get(f"{path}/files/{name}").status_code == 404
    assert "task" in {e.kind for e in world.service.store.list_events(world.done)}
    assert client.delete(f"{path}/files").status_code == 204
    assert not Path(found["out"]).exists()
    refused(client.get(f"{path}/files"), 404, "were deleted")


def test_an_export_is_stopped_and_queued_again(world: World, client: TestClient) -> None:
    """Each twice without harm."""
    path = client.post(f"/v1/jobs/{world.done}/exports", json={}).headers["location"]
    states = [
        client.post(f"{path}/{verb}").json()["state"] for verb in ("cancel", "cancel", "resume", "resume", "cancel")
    ]
    assert states == ["CANCELLED", "CANCELLED", "QUEUED", "QUEUED", "CANCELLED"]


def test_exports_that_cannot_be(world: World, client: TestClient) -> None:
    """Refused before a task exists."""
    path, before = f"/v1/jobs/{world.done}/exports", len(world.service.tasks())
    refused(client.post(path, json={"point": "p999"}), 404, "has no point 'p999'")
    refused(client.post(path, json={"budget": "1%"}), 422, "No point of job")
    refused(client.post(path, json={"point": "p1", "budget": "1%"}), 422, "choose one of them")
    refused(client.post(path, json={"target": "floppy"}), 422, "floppy")
    refused(client.post(path, json={"out": "/etc"}), 422, "body.out")
    refused(client.post("/v1/jobs/nobody/exports", json={}), 404, "of yours")
    refused(client.get("/v1/exports/nobody"), 404, "no export 'nobody' of yours")
    assert len(world.service.tasks()) == before


def test_exports_of_others(world: World, client: TestClient, tmp_path: Path) -> None:
    """They are not seen; and what was written elsewhere by a command is not given away."""
    elsewhere = world.service.queue_export(world.done, tmp_path / "out")
    for verb in ("", "/files", "/files/config.json"):
        with world.client(Named(x=Caller("xaver", Scope.SUBMIT))) as other:
            refused(other.get(f"/v1/exports/{elsewhere.task_id}{verb}", headers=bearing("x")), 404, "of yours")
    world.service.cancel_task(elsewhere.task_id)


def test_a_deleted_job_takes_all_that_is_its_own_along(world: World, client: TestClient) -> None:
    """Its records, its log and the exports that lie in the home; not before it rests."""
    store, settings = world.service.store, world.service.settings
    path = client.post("/v1/jobs", json=world.request(budget="7bpw")).headers["location"]
    job = path.rpartition("/")[2]
    refused(client.delete(path), 409, "cancel it before it is deleted")
    client.post(f"{path}/cancel")
    log = settings.log_path(job)
    log.parent.mkdir(exist_ok=True)
    log.write_text("hello")
    assert store.get_job(job).state is JobState.CANCELLED
    assert client.delete(path).status_code == 204
    refused(client.get(path), 404, "of yours")
    refused(client.delete(path), 404, "of yours")
    assert not log.exists()
