"""The clients, with a real server behind a socket."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import pytest
import uvicorn

from space.errors import (
    AccessError,
    InfeasibleBudgetError,
    JobFailedError,
    ModelError,
    NotFoundError,
    OutageError,
    StateError,
    StoreError,
    UsageError,
    VerificationError,
)
from space.spec import JobSpec
from tests.end_to_end.jobs import Quiet
from tests.http.conftest import World
from tests.http.here import Here
from tightfit import AsyncClient, Client
from tightfit.estimate import DryRun
from tightfit.http.callers import Gate, TokenGate
from tightfit.http.http_server import configured
from tightfit.report.notebook_front import Front


@contextmanager
def answering(world: World, gate: Gate | None = None) -> Iterator[str]:
    """Serve the world on a socket of this process; give its address."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configured(world.client(gate).app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()
        assert not thread.is_alive()


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    """Give the address of a service on loopback."""
    with answering(world) as address:
        yield address


def options(world: World) -> dict[str, object]:
    """Return the options of a small request."""
    return {name: value for name, value in world.request().items() if name not in ("model", "budget")}


def test_a_job_from_a_notebook(world: World, url: str) -> None:
    """Submitted, waited for, looked at: as the README's lines with a service in place of this process."""
    mpl.use("agg")
    with Client(url) as client:
        job = client.submit(str(world.model), budget="4.5bpw", **options(world))
        assert job.status()["state"] == "QUEUED"
        assert "has no front yet" in job._repr_html_()
        runs = threading.Thread(target=world.service.run, args=(job.job_id, Quiet()), kwargs={"inline": True})
        runs.start()
        front = job.wait(120).front()
        runs.join()
        assert front == world.service.front(job.job_id)
        assert isinstance(front, Front)
        assert list(front.to_pandas().index) == [point.point for point in front.front]
        assert front.plot().get_xlabel() == "size in MB"
        assert job._repr_html_() == front._repr_html_()
        assert [t["trial"] for t in job.trials()] == [t.number for t in world.service.store.list_trials(job.job_id)]
        assert job.explain() == json.loads(json.dumps(world.service.explain(job.job_id).to_json()))
        assert job.plan(front.front[0].point) == world.service.plans(front)[front.front[0].point].to_json()
        assert job.report().startswith("<!doctype html>")
        events = list(job.events(follow=False))
        assert [seq for seq, _, _ in events] == list(range(1, len(events) + 1))
        assert events[-1][1:] == ("job", events[-1][2])
        assert events[-1][2]["state"] == "DONE"
        assert client.submit(str(world.model), budget="4.5bpw", **options(world)) == job
        assert job.job_id in {found["job"] for found in client.jobs(state="DONE", limit=1)}


def test_events_are_followed(world: World, url: str) -> None:
    """As they happen."""
    with Client(url) as client:
        job = client.submit(str(world.model), budget="5.5bpw", **options(world))
        stream = job.events()
        assert next(stream)[2]["state"] == "QUEUED"
        job.cancel()
        assert next(stream)[2]["state"] == "CANCELLED"


@pytest.mark.usefixtures("reload_here")
def test_an_export_is_fetched(world: World, url: str, tmp_path: Path) -> None:
    """Whole, after a download that broke off too; what is damaged on the way is noticed."""
    with Client(url) as client:
        export = client.job(world.done).export(refit=False)
        with pytest.raises(TimeoutError, match="is QUEUED after 0 s"):
            export.wait(0)
        world.service.run_export(export.task_id)
        out, made = tmp_path / "out", Path(export.wait().status()["out"])
        out.mkdir()
        weights = (made / "model.safetensors").read_bytes()
        (out / "model.safetensors").write_bytes(weights[:1000])
        export.download(out)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == {
            path.name: path.read_bytes() for path in made.iterdir() if path.is_file()
        }
        (out / "model.safetensors").write_bytes(b"x" + weights[1:])
        with pytest.raises(VerificationError, match="sha256 differs"):
            export.download(out)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda c: c.submit("bundled", "1%"), InfeasibleBudgetError, "below the smallest plan"),
        (lambda c: c.submit("bundled", "four"), UsageError, "cannot be read"),
        (lambda c: c.submit("/etc", "60%"), ModelError, "the service reads"),
        (lambda c: c.job("nobody").status(), NotFoundError, "no job 'nobody' of yours"),
        (lambda c: c.job("nobody").export(), NotFoundError, "of yours"),
        (lambda c: list(c.job("nobody").events()), NotFoundError, "of yours"),
        (lambda c: c.job("nobody").report(), NotFoundError, "of yours"),
        (lambda c: c.ask("GET", "/page/none.js"), NotFoundError, "no such file"),
        (lambda c: c.ask("DELETE", "/v1/jobs"), Exception, "Method Not Allowed"),
    ],
)
def test_errors_are_the_services_own(url: str, call: Callable[[Client], object], error: type, words: str) -> None:
    """Of the same kind and in the same words."""
    with Client(url) as client, pytest.raises(error, match=words):
        call(client)


def test_who_is_not_there_and_who_is_not_known(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address and the token come from the environment where they are not given."""
    monkeypatch.setenv("TIGHTFIT_URL", "http://127.0.0.1:9")
    with Client() as client, pytest.raises(OutageError, match=r"127.0.0.1:9.*Start `tightfit serve`"):
        client.job("one").status()
    with answering(world, TokenGate(world.service.store)) as address:
        monkeypatch.setenv("TIGHTFIT_TOKEN", "tf_0_0")
        with Client(address) as client, pytest.raises(AccessError, match="not good"):
            client.job("one").status()


def test_a_failed_job_raises_where_it_is_waited_for(world: World, url: str) -> None:
    """With its reason; a server that is none of ours is named."""
    store = world.service.store
    job = store.create_job("jfails", store.glance(world.done).spec, "ada")
    store.set_job_state(job.job_id, store.glance(world.done).state.FAILED, "the disk is full")
    with Client(url) as client:
        with pytest.raises(JobFailedError, match="the disk is full"):
            client.job("jfails").wait()
        with pytest.raises(StateError, match="cancel it before"):
            client.submit(str(world.model), budget="5.6bpw", **options(world)).delete()
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_answer_oddly, args=(other,), daemon=True).start()
        with (
            Client(f"http://127.0.0.1:{other.getsockname()[1]}") as client,
            pytest.raises(StoreError, match="right address"),
        ):
            client.job("one").status()


def test_who_is_cut_off_as_the_service_stops_asks_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that is not answered yet ends in an outage, as one of a service that is not there does."""
    monkeypatch.setattr("tightfit.http.http_server._END_SECONDS", 1)
    begun, ended, errors = threading.Event(), threading.Event(), list[OutageError]()

    class Slow(Here):
        def dry_run(self, spec: JobSpec) -> DryRun:
            begun.set()
            ended.wait(60)
            return super().dry_run(spec)

    def ask() -> None:
        with Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client, pytest.raises(OutageError) as found:
            client.inspect(str(world.model), "60%", **options(world))
        errors.append(found.value)

    app = world.client().app
    app.state.judge = Slow(world.service)  # type: ignore[attr-defined]
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(configured(app))
    threads = [threading.Thread(target=server.run, kwargs={"sockets": [listening]}), threading.Thread(target=ask)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    server.should_exit = True
    threads[1].join(60)
    ended.set()
    threads[0].join(60)
    assert "Send it again once it is back" in str(errors[0])


def _answer_oddly(listening: socket.socket) -> None:
    connected, _ = listening.accept()
    with connected:
        connected.recv(4096)
        connected.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello")


def test_the_asynchronous_one(world: World, url: str) -> None:
    """The same verbs, many at once."""

    async def ask() -> None:
        async with AsyncClient(url) as client:
            jobs = await asyncio.gather(
                *(client.submit(str(world.model), "5.7bpw", **options(world)) for _ in range(5))
            )
            assert len({job.job_id for job in jobs}) == 1
            assert (await jobs[0].cancel())["state"] == "CANCELLED"
            assert await jobs[0].wait() is jobs[0]
            front = await client.job(world.done).front()
            assert front == world.service.front(world.done)
            told = await client.inspect(str(world.model), "4bpw", **options(world))
            assert told["smallest_bytes"] < told["budget_bytes"]
            with pytest.raises(NotFoundError, match="of yours"):
                await client.job("nobody").status()

    asyncio.run(ask())
