"""Models that are sent: announced, in parts, resumed, whole or not there; and what is refused of them."""

import base64
import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from space.errors import ModelError, StateError, TightfitError
from tests.http.conftest import Named, World
from tests.http.test_clients import answering, options
from tests.http.test_people import at_once, bearing
from tests.http.test_refusals_over_http import refused
from tightfit.client import sending
from tightfit.client.sync_client import Client
from tightfit.http.callers import Caller, Scope
from tightfit.uploads.announced import is_accepted

ROOT = Path(__file__).resolve().parents[2]


def announcement(folder: Path, name: str = "sent", **changes: Any) -> dict[str, Any]:
    """Return the announcement of a folder of files."""
    files = [
        {"name": p.name, "size_bytes": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
        for p in sorted(folder.iterdir())
    ]
    return {"name": name, "files": files} | changes


@pytest.fixture
def sent(world: World, tmp_path: Path) -> Path:
    """Give the folder of a model of its own: another one than any that was sent before."""
    folder = tmp_path / "sent"
    folder.mkdir()
    for path in world.model.iterdir():
        if is_accepted(path.name):
            (folder / path.name).write_bytes(path.read_bytes())
    (folder / "README.md").write_text(str(tmp_path))
    return folder


def put(client: TestClient, path: str, data: bytes, offset: int = 0, **headers: str) -> Any:
    """Send a part."""
    return client.put(
        f"{path}?offset={offset}", content=data, headers={"content-type": "application/octet-stream"} | headers
    )


def test_a_model_is_sent_in_parts_and_submitted(world: World, client: TestClient, sent: Path) -> None:
    """File by file, one of them in pieces; not used before all of it is there; then as any other model."""
    begun = client.post("/v1/uploads", json=announcement(sent))
    path, told = begun.headers["location"], begun.json()
    assert (begun.status_code, told["state"], told["received_bytes"], told["user"]) == (201, "RECEIVING", 0, "ada")
    request = world.request() | {"model": told["model"]}
    for file in told["files"]:
        refused(client.post("/v1/inspect", json=request), 409, f"{told['model']}: not all of it is here yet")
        data, size = (sent / file["name"]).read_bytes(), 0
        while size < len(data):
            part = data[size : size + max(len(data) // 3, 1000)]
            digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
            answer = put(
                client, f"{path}/files/{file['name']}", part, size, **{"content-digest": f"sha-256=:{digest}:"}
            )
            size += len(part)
            assert {f["name"]: f["received_bytes"] for f in answer.json()["files"]}[file["name"]] == size
    assert client.get(path).json()["state"] == "READY"
    assert client.post("/v1/uploads", json=announcement(sent)).status_code == 200
    folder = world.service.settings.uploads_folder / told["upload"] / "sent"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in sent.iterdir()}
    assert client.post("/v1/inspect", json=request).json()["dense_bytes"] > 0
    job = client.post("/v1/jobs", json=request).json()
    assert job["model"] == str(folder)
    refused(client.delete(path), 409, f"the model of job {job['job']}")
    again = client.post(f"/v1/jobs/{job['job']}/again", json={"budget": "5bpw"})
    assert again.json()["model"] == str(folder)
    for found in (job["job"], again.json()["job"]):
        client.post(f"/v1/jobs/{found}/cancel")
        assert client.delete(f"/v1/jobs/{found}").status_code == 204
    assert client.delete(path).status_code == 204
    refused(client.get(path), 404, "of yours")
    assert not folder.parent.exists()


def test_parts_that_do_not_fit(client: TestClient, sent: Path) -> None:
    """At another place, damaged on the way, too long, of another length than it says; what was there stays."""
    path = client.post("/v1/uploads", json=announcement(sent)).headers["location"]
    data = (sent / "config.json").read_bytes()
    config = f"{path}/files/config.json"
    assert put(client, config, data[:10]).status_code == 200
    refused(put(client, config, data[:10]), 409, "10 bytes are here")
    refused(put(client, config, data[20:], 20), 409, "10 bytes are here")
    wrong = {"content-digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}
    refused(put(client, config, data[10:20], 10, **wrong), 422, "not what its Content-Digest says")
    refused(put(client, config, data[10:] + b"x", 10), 413, "would end behind them")
    refused(client.put(f"{config}?offset=10", content=iter([b"x"])), 422, "needs a Content-Length")
    refused(put(client, f"{path}/files/evil.py", b"x"), 404, "was not announced")
    refused(put(client, f"{path}/files/..%2fconfig.json", b"x"), 404, "")
    assert put(client, config, data[10:], 10).status_code == 200
    assert put(client, config, b"", len(data)).status_code == 200, "what is whole may be sent again"
    tokenizer = (sent / "tokenizer.json").read_bytes()
    damaged = put(client, f"{path}/files/tokenizer.json", b" " + tokenizer[1:])
    refused(damaged, 422, "its sha256 differs")
    assert put(client, f"{path}/files/tokenizer.json", tokenizer).status_code == 200


@pytest.mark.parametrize(
    ("name", "size", "status", "words"),
    [
        ("pytorch_model.bin", 10, 422, "not taken"),
        ("evil.py", 10, 422, "not taken"),
        ("../config.json", 10, 422, "not taken"),
        ("a/model.safetensors", 10, 422, "not taken"),
        ("..", 10, 422, "not taken"),
        (".env", 10, 422, "not taken"),
        ("CONFIG.json", 10, 422, "not taken"),
        ("Model.safetensors", 10, 422, "two of its files have one name"),
        ("tokenizer.json", 2**30, 413, "such a file may have"),
        ("more.safetensors", 2**47, 413, "stay free"),
        ("more.safetensors", -1, 422, "files"),
        ("more.safetensors", 2**60, 422, "files"),
    ],
)
def test_announcements_that_are_refused(
    world: World, client: TestClient, sent: Path, name: str, size: int, status: int, words: str
) -> None:
    """Before a byte is sent; nothing is made."""
    asked = announcement(sent)
    asked["files"] = [f for f in asked["files"] if f["name"] != name] + [
        {"name": name, "size_bytes": size, "sha256": "0" * 64}
    ]
    before = set(world.service.settings.uploads_folder.glob("*"))
    refused(client.post("/v1/uploads", json=asked), status, words)
    for less in ([], asked["files"][:1] * 2, [f for f in asked["files"] if f["name"] != "config.json"]):
        assert client.post("/v1/uploads", json=asked | {"files": less}).status_code in (413, 422)
    for odd in ("../x", ".", "", "a/b", "x" * 101):
        assert client.post("/v1/uploads", json=announcement(sent, name=odd)).status_code == 422
    assert set(world.service.settings.uploads_folder.glob("*")) == before


@pytest.mark.parametrize(
    "begin", [struct.pack("<Q", 2**40) + b"{", b"\x80\x04\x95" + bytes(20), b"PK\x03\x04" + bytes(20)]
)
def test_what_is_no_safetensors_ends_with_its_first_part(client: TestClient, sent: Path, begin: bytes) -> None:
    """A header of 1 TB, a pickle, a zip: long before the rest of it is sent."""
    asked = announcement(sent)
    weights = next(file for file in asked["files"] if file["name"] == "model.safetensors")
    weights["size_bytes"] = 2**28
    path = client.post("/v1/uploads", json=asked).headers["location"]
    refused(put(client, f"{path}/files/model.safetensors", begin), 422, "not a safetensors file")
    assert client.get(path).json()["received_bytes"] == 0


def test_uploads_are_of_who_sends_them(world: World, sent: Path) -> None:
    """Nobody else sees, fills, uses or deletes one; who only reads sends none."""
    gate = Named(a=Caller("ann", Scope.SUBMIT), b=Caller("bea", Scope.SUBMIT), r=Caller("ann", Scope.READ))
    with world.client(gate) as client:
        path = client.post("/v1/uploads", json=announcement(sent), headers=bearing("a")).headers["location"]
        model = f"upload:{path.rpartition('/')[2]}"
        folder = str(world.service.settings.uploads_folder / path.rpartition("/")[2] / "sent")
        for method, address in (("GET", path), ("DELETE", path), ("PUT", f"{path}/files/config.json")):
            refused(client.request(method, address, headers=bearing("b")), 404, "of yours")
        for name in (model, folder, "upload:../../etc", "upload:u000000000000", "upload:"):
            refused(
                client.post("/v1/jobs", json=world.request() | {"model": name}, headers=bearing("b")), 404, "of yours"
            )
        refused(client.post("/v1/uploads", json=announcement(sent), headers=bearing("r")), 403, "scope `submit`")
        refused(client.put(f"{path}/files/config.json", headers=bearing("r")), 403, "scope `submit`")
        assert client.get("/v1/uploads", headers=bearing("b")).json() == {"uploads": []}
        assert client.post("/v1/uploads", json=announcement(sent), headers=bearing("b")).headers["location"] != path


def test_the_same_at_once_is_one_upload(client: TestClient, sent: Path) -> None:
    """Announced by many; of those who send the same part at once one is heard at a time, and nothing is doubled."""
    found = at_once(lambda: client.post("/v1/uploads", json=announcement(sent)), 20)
    assert {answer.status_code for answer in found} <= {200, 201}
    (path,) = {answer.headers["location"] for answer in found}
    data = (sent / "tokenizer.json").read_bytes()
    codes = [a.status_code for a in at_once(lambda: put(client, f"{path}/files/tokenizer.json", data), 8)]
    assert set(codes) <= {200, 409}
    assert 200 in codes
    told = {file["name"]: file for file in client.get(path).json()["files"]}
    assert told["tokenizer.json"]["received_bytes"] == len(data)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Send little at a time."""
    monkeypatch.setattr(sending, "PART_BYTES", 40_000)


@pytest.mark.usefixtures("small_parts")
def test_a_folder_from_python(world: World, sent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole; what breaks off goes on where it did; what is there is not sent again; files of no model stay at home."""
    (sent / "pytorch_model.bin").write_bytes(b"pickle")
    told: list[str] = []
    with answering(world) as url, Client(url) as client:
        sent_bytes, ask = 0, client.ask

        def breaking(method: str, path: str, **values: Any) -> Any:
            nonlocal sent_bytes
            if method == "PUT":
                sent_bytes += len(values["content"])
                if 3 * 40_000 < sent_bytes < 4 * 40_000:
                    raise StateError("broken off")
            return ask(method, path, **values)

        monkeypatch.setattr(client, "ask", breaking)
        model = client.upload(sent, told.append)
        assert told[0] == "Left out, since no upload has such files: pytorch_model.bin"
        whole = sum(path.stat().st_size for path in sent.iterdir()) - len(b"pickle")
        assert whole <= sent_bytes <= whole + 40_000
        assert client.upload(sent) == model
        assert sent_bytes <= whole + 40_000
        assert client.submit(model, "4.7bpw", **options(world)).cancel()["state"] == "CANCELLED"
        with pytest.raises(ModelError, match="no such folder"):
            client.upload(sent / "none")


@pytest.mark.parametrize("state", ["no_announcement", "half", "not_settled", "torn"])
def test_what_a_kill_leaves(world: World, sent: Path, state: str) -> None:
    """Whatever moment it came at, the same call ends with the model, and nothing half-written was used."""
    with answering(world) as url, Client(url) as client:
        place = world.service.settings.uploads_folder / client.upload(sent).removeprefix("upload:")
        folder, arriving = place / "sent", place / ".arriving"
        if state == "no_announcement":
            (place / ".upload.json").unlink()
        folder.rename(arriving)
        if state in ("half", "torn"):
            weights = arriving / "model.safetensors"
            data = weights.read_bytes()
            weights.unlink()
            torn = data[:2000] if state == "half" else data[:2000] + bytes(2000)  # as a lost power supply leaves it
            (arriving / "model.safetensors.part").write_bytes(torn)
        if state == "torn":
            with pytest.raises(ModelError, match="sha256 differs"):
                client.upload(sent)
            assert not folder.exists()
        client.upload(sent)
        assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in sent.iterdir()}


def serve_home(home: Path, port: int) -> subprocess.Popen[bytes]:
    """Serve a home's API in a process, on a socket of this one."""
    listening = socket.create_server(("127.0.0.1", port))
    listening.set_inheritable(True)
    asked = {
        "socket": listening.fileno(), "host": "127.0.0.1", "allowed_hosts": [], "model_folders": [],
        "needs_tokens": False,
    }  # fmt: skip
    environment = os.environ | {"TIGHTFIT_HOME": str(home)}
    command = [sys.executable, "-m", "tightfit.http.http_server", json.dumps(asked)]
    process = subprocess.Popen(command, env=environment, cwd=ROOT, pass_fds=[listening.fileno()])
    listening.close()
    return process


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_a_server_that_is_killed_at_any_moment(sent: Path, tmp_path: Path) -> None:
    """SIGKILL at 20 random moments of uploads: the same call goes on, and what is there is what was sent."""
    draw, home, weights = random.Random(0), tmp_path / "home", sent / "model.safetensors"
    header = json.dumps({"w": {"dtype": "F32", "shape": [8_000_000], "data_offsets": [0, 32_000_000]}}).encode()
    weights.write_bytes(struct.pack("<Q", len(header)) + header + draw.randbytes(32_000_000))
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process, ended = serve_home(home, port), threading.Event()
    with Client(f"http://127.0.0.1:{port}") as client, ThreadPoolExecutor(1) as pool:
        model = pool.submit(_insist, client, sent, ended)
        for _ in range(20):
            time.sleep(draw.uniform(1.5, 4))
            process.send_signal(signal.SIGKILL)
            process.wait()
            process = serve_home(home, port)
        ended.set()
        place = home / "uploads" / model.result(timeout=300).removeprefix("upload:") / "sent"
    process.terminate()
    process.wait()
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {p.name: p.read_bytes() for p in sent.iterdir()}


def _insist(client: Client, folder: Path, ended: threading.Event) -> str:
    """Upload a folder over and over, under another name each time, until the kills are over and one more is whole."""
    while True:
        try:
            found = client.upload(folder)
        except TightfitError:
            continue
        if ended.is_set():
            return found
        client.ask("DELETE", f"/v1/uploads/{found.removeprefix('upload:')}")
