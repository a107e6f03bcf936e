"""Recoveries over HTTP: asked for, done by whoever works, and their point on the front."""

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from space.errors import JobFailedError, NotFoundError, SpecError
from storage.point_tasks import TaskKind, TaskState
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.http.conftest import Named, World
from tests.http.test_clients import answering
from tests.http.test_refusals_over_http import refused
from tests.workers.tiny_models import TinyKind
from tightfit import AsyncClient, Client
from tightfit.cli.app import main
from tightfit.http.apart.request_judge import Apart
from tightfit.http.callers import Caller, Scope
from tightfit.tasks.asked_recovery import RecoverWish
from workers.recover import scale_training
from workers.recover.distill import Course


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[TinyKind], Path], text_file: Path) -> Iterator[World]:
    """Give a home with one finished job, which no other test sees."""
    service = open_service(tmp_path_factory.mktemp("recoveries") / "home")
    job, _ = run_job(service, small_spec(tiny("tied"), text_file, max_trials=14, budget="3bpw"))
    yield World(service, tiny("tied"), text_file, job)
    service.store.close()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for a few steps only, and keep whatever is made."""
    course = Course(steps=8, batch=4, learning_rate=5e-3, warmup=2, judge_every=4, checkpoint_seconds=0.0)
    monkeypatch.setattr(scale_training, "SCALES_COURSE", course)
    monkeypatch.setattr("workers.recover.recovery.paired_interval", lambda *_: (-2.0, -1.0))


def test_one_is_stopped_and_queued_again(own: World) -> None:
    """Each twice without harm; it is listed as a recovery, and not as an export of the job."""
    with own.client() as client:
        asked = client.post(f"/v1/jobs/{own.done}/recoveries", json={"method": "refit", "seed": 3})
        path, task = asked.headers["location"], asked.json()
        assert (asked.status_code, task["state"], task["kind"], task["user"]) == (202, "QUEUED", "recover", "ada")
        assert path == f"/v1/recoveries/{task['task']}"
        assert client.get(path).json() == task
        for place in (f"/v1/jobs/{own.done}/recoveries", "/v1/recoveries"):
            assert task in client.get(place).json()["recoveries"]
        assert client.get(f"/v1/jobs/{own.done}/exports").json()["exports"] == []
        assert task in client.get(f"/v1/jobs/{own.done}").json()["exports"]  # as `tightfit status` prints it
        states = [
            client.post(f"{path}/{verb}").json()["state"] for verb in ("cancel", "cancel", "resume", "resume", "cancel")
        ]
        assert states == ["CANCELLED", "CANCELLED", "QUEUED", "QUEUED", "CANCELLED"]


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"point": "p999"}, 404, "has no point 'p999'"),
        ({"method": "magic"}, 422, "body.method"),
        ({"minutes": 0}, 422, "body.minutes"),
        ({"text": "/etc/passwd"}, 422, "text '/etc/passwd': the service reads `python-stdlib`, more of the job's"),
        ({"text": "../text.txt"}, 422, "the service reads"),
        ({"out": "/etc"}, 422, "body.out"),
    ],
)
def test_recoveries_that_cannot_be(own: World, values: dict[str, Any], status: int, words: str) -> None:
    """Refused before a task exists."""
    before = len(own.service.tasks())
    with own.client() as client:
        refused(client.post(f"/v1/jobs/{own.done}/recoveries", json=values), status, words)
    assert len(own.service.tasks()) == before


def test_recoveries_of_others(own: World) -> None:
    """They are not seen, in the words of one that nobody has; an export is no recovery; reading begins none."""
    gate = Named(r=Caller("ada", Scope.READ), o=Caller("carl", Scope.SUBMIT), a=Caller("eve", Scope.ADMIN))
    task = own.service.queue_recovery(own.done, RecoverWish(method="refit"), "ada").task_id
    own.service.cancel_task(task)
    export = own.service.queue_export(own.done, own.service.settings.new_export_folder(own.done)).task_id
    own.service.cancel_task(export)
    with own.client(gate) as client:

        def ask(token: str, method: str, path: str, **values: Any) -> Any:
            return client.request(method, path, headers={"authorization": f"Bearer {token}"}, **values)

        for who, named in (("o", task), ("a", export), ("a", "nobody")):
            for method, verb in (("GET", ""), ("POST", "/cancel"), ("POST", "/resume")):
                refused(ask(who, method, f"/v1/recoveries/{named}{verb}"), 404, f"no recovery '{named}' of yours")
        refused(ask("o", "GET", f"/v1/jobs/{own.done}/recoveries"), 404, "of yours")
        refused(ask("o", "POST", f"/v1/jobs/{own.done}/recoveries", json={}), 404, "of yours")
        refused(ask("r", "POST", f"/v1/jobs/{own.done}/recoveries", json={}), 403, "scope `submit`")
        assert ask("o", "GET", "/v1/recoveries").json() == {"recoveries": []}
        assert task in {found["task"] for found in ask("a", "GET", "/v1/recoveries").json()["recoveries"]}


def test_wishes_are_judged_in_a_process_apart(own: World) -> None:
    """Looking a recovery up takes torch, which the service itself does not load; its errors come back."""
    judge = Apart(own.service.settings)
    try:
        task = judge.recover(own.done, RecoverWish(method="refit", seed=5), "bea")
        assert own.service.store.get_task(task.task_id) == task
        assert task.user == "bea"
        own.service.cancel_task(task.task_id)
        with pytest.raises(SpecError, match="'magic' is no recovery"):
            judge.recover(own.done, RecoverWish(method="magic"), "bea")
        with pytest.raises(NotFoundError, match="p999"):
            judge.recover(own.done, RecoverWish(point="p999"), "bea")
    finally:
        judge.close()


@pytest.mark.usefixtures("short")
def test_from_clients_and_the_command(
    own: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same point wherever it was asked for; with `TIGHTFIT_URL` the service's controllers make it."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.1):
            for task in own.service.store.list_tasks(states=[TaskState.QUEUED]):
                if task.kind is TaskKind.RECOVER:
                    own.service.run_recovery(task.task_id)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        with answering(own) as url:
            monkeypatch.setenv("TIGHTFIT_URL", url)
            monkeypatch.setattr(sys, "argv", ["tightfit", "recover", own.done, "--method", "scales"])
            with pytest.raises(SystemExit) as end:
                main()
            told = capsys.readouterr()
            assert not end.value.code, told.err
            with Client(url) as client:
                job = client.job(own.done)
                made, ancestry = next((p, p.recovered) for p in job.front().front if p.recovered is not None)
                assert f"Recovered {ancestry.versus_origin.other} of job {own.done} as {made.point}" in told.out
                again = job.recover(made.point, method="scales", seed=1).wait(120)
                assert again.status()["result"]["point"]["recovered"]["seed"] == 1
                assert len([p for p in job.front().front if p.recovered is not None]) == 2
                assert job.plan(made.point) == own.service.plans(own.service.front(own.done))[made.point].to_json()
            asyncio.run(_awaited(url, own.done))
            monkeypatch.setattr(sys, "argv", ["tightfit", "exports", own.done, "--json"])
            with pytest.raises(SystemExit):
                main()
            kinds = [found["kind"] for found in json.loads(capsys.readouterr().out)]
            assert set(kinds) == {"export", "recover"}
    finally:
        ended.set()
        thread.join()


async def _awaited(url: str, job_id: str) -> None:
    async with AsyncClient(url) as client:
        task = await client.job(job_id).recover(method="scales", seed=2)
        assert (await (await task.wait()).status())["state"] == "DONE"
        stopped = await client.job(job_id).export(refit=False)
        await stopped.cancel()
        with pytest.raises(JobFailedError, match=f"Export {stopped.task_id} is CANCELLED"):
            await stopped.wait()
