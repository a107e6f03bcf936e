"""Every command that a service can answer prints the same of it as of the home that it serves."""

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.point_tasks import TaskState
from tests.cli.conftest import Done
from tests.http.conftest import World
from tests.http.test_clients import answering
from tightfit.cli.app import main
from tightfit.config import login_name
from tightfit.http.callers import OpenGate

Both = Callable[..., tuple[Done, Done]]


@pytest.fixture(scope="module")
def url(world: World) -> Iterator[str]:
    """Give the address of a service of the world's home."""
    with answering(world, OpenGate(login_name())) as address:
        yield address


@pytest.fixture
def both(world: World, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Both:
    """Give `tightfit` as a function that is asked of the home, then of its service; and returns both answers."""
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("TIGHTFIT_DATABASE_URL", "MLFLOW_TRACKING_URI", "TIGHTFIT_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def ask(home: str, service: str, arguments: tuple[str, ...]) -> Done:
        monkeypatch.setenv("TIGHTFIT_HOME", home)
        monkeypatch.setenv("TIGHTFIT_URL", service)
        monkeypatch.setattr(sys, "argv", ["tightfit", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        captured = capsys.readouterr()
        return Done(int(end.value.code or 0), captured.out, captured.err)

    def run(*arguments: str, other: tuple[str, ...] = ()) -> tuple[Done, Done]:
        here = ask(str(world.service.settings.home), "", arguments)
        return here, ask("/nowhere", url, other or arguments)

    return run


def same(found: tuple[Done, Done], code: int = 0) -> str:
    """Return what both printed, the ids of jobs and exports aside."""
    here, there = found
    assert (here.exit_code, there.exit_code) == (code, code), (here, there)
    told = [re.sub(r"\b[jt][0-9a-f]{6,12}\b", "ID", done.out) for done in found]
    assert told[0] == told[1]
    assert told[0] or code
    return here.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "--json"),
        ("status", "JOB"),
        ("status", "JOB", "--json"),
        ("status", "JOB", "--watch"),
        ("status", "--watch", "--json"),
        ("front",),
        ("front", "JOB"),
        ("front", "--json"),
        ("front", "--csv"),
        ("front", "--json", "--explain"),
        ("explain",),
        ("explain", "JOB", "--point", "p1"),
        ("explain", "--json"),
        ("logs",),
        ("logs", "JOB", "--follow"),
        ("exports",),
        ("exports", "--json"),
        ("exports", "JOB"),
        ("resume", "JOB"),
        ("cancel", "JOB"),
        ("pause", "JOB"),
    ],
    ids=" ".join,
)
def test_what_only_looks(world: World, both: Both, arguments: tuple[str, ...]) -> None:
    """Tables, JSON, CSV, what is said of a job that rests; of the newest front where no job is named."""
    asked = tuple(world.done if part == "JOB" else part for part in arguments)
    found = both(*asked)
    same(found)
    if "--watch" in arguments:
        assert found[0].err == found[1].err


def test_the_report_is_the_same_file(world: World, both: Both, tmp_path: Path) -> None:
    """Byte for byte."""
    pages = [tmp_path / "here.html", tmp_path / "there.html"]
    both("front", world.done, "--html", str(pages[0]), other=("front", world.done, "--html", str(pages[1])))
    assert pages[0].read_text().rstrip() == pages[1].read_text().rstrip()


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_dry_runs(world: World, both: Both, options: tuple[str, ...]) -> None:
    """What a job would search and cost, from before anything runs."""
    asked = ("submit", str(world.model), "--budget", "4bpw", "--calibration", str(world.text), "--dry-run")
    assert "dense" in same(both(*asked, *options))


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_job_from_its_submission_to_its_end(world: World, both: Both, options: tuple[str, ...]) -> None:
    """Queued like an earlier one, paused, queued again, cancelled; each twice without harm."""
    found = both("submit", str(world.model), "--budget", "4.2bpw", "--like", world.done, "--queue", *options)
    same(found)
    jobs = [re.findall(r"\bj[0-9a-f]{6,12}\b", done.out)[0] for done in found]
    for name, *rest in (
        ["describe", "--label", "both ways", "--note", "one of two"],
        ["pause"],
        ["pause"],
        ["resume", "--queue"],
        ["cancel"],
        ["cancel"],
        ["status"],
    ):
        told = same(both(name, jobs[0], *rest, other=(name, jobs[1], *rest)))
    assert "both ways" in told
    assert "one of two" in told
    found = both("status", "--label", "both", "--state", "cancelled", "--model", "model", "--json")
    assert {told["job"] for told in json.loads(same(found))} == set(jobs)
    assert "is deleted" in same(both("delete", jobs[0], other=("delete", jobs[1])))
    for done in both("status", jobs[0], other=("status", jobs[1])):
        assert done.exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("status", "nobody"), 2),
        (("front", "nobody"), 2),
        (("explain", "JOB", "--point", "p99"), 2),
        (("cancel", "t000000"), 2),
        (("export", "JOB", "--point", "p99", "--out", "/no/such/out"), 2),
        (("export", "JOB", "--budget", "1%", "--out", "/no/such/out"), 3),
        (("submit", "bundled", "--budget", "1%", "--calibration", "python-stdlib"), 3),
        (("submit", "bundled", "--budget", "four"), 2),
    ],
)
def test_errors_have_the_same_exit_codes(world: World, both: Both, arguments: tuple[str, ...], code: int) -> None:
    """And one sentence on stderr."""
    found = both(*(world.done if part == "JOB" else part for part in arguments))
    same(found, code)
    for done in found:
        assert done.err.startswith("tightfit: ")
        assert done.err.count("\n") == 1


@pytest.fixture
def worker(world: World) -> Iterator[None]:
    """Run queued exports of the world."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.1):
            for task in world.service.store.list_tasks(states=[TaskState.QUEUED]):
                world.service.run_export(task.task_id)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("reload_here", "worker")
def test_an_export_lies_here(world: World, both: Both, tmp_path: Path) -> None:
    """Written here or fetched: the same words and bytes; a folder that is there is refused before anything is asked."""
    for out in ("here", "there"):
        (tmp_path / out).mkdir()
    outs = [tmp_path / "here" / "out", tmp_path / "there" / "out"]
    asked = ("export", world.done, "--no-refit", "--budget", "7bpw", "--out")
    found = both(*asked, str(outs[0]), other=(*asked, str(outs[1])))
    told = [done.out.replace(str(out), "OUT") for done, out in zip(found, outs, strict=True)]
    assert told[0] == told[1]
    assert "  verified\n" in told[1]
    assert [line for line in found[0].err.splitlines() if "bytes are left unused" in line] == [
        line for line in found[1].err.splitlines() if "bytes are left unused" in line
    ]
    names = {path.name for path in outs[0].iterdir()}
    assert names == {path.name for path in outs[1].iterdir()}
    assert (outs[0] / "model.safetensors").read_bytes() == (outs[1] / "model.safetensors").read_bytes()
    again = both(*asked, str(outs[0]), other=(*asked, str(outs[1])))
    assert [done.exit_code for done in again] == [2, 2]
    assert all("already there and not empty" in done.err for done in again)
    task = next(t for t in world.service.tasks() if t.out != str(outs[0])).task_id
    same(both("resume", task))
    same(both("cancel", task))


def test_a_model_is_sent(world: World, both: Both) -> None:
    """To a service; a home says that it needs none."""
    here, there = both("upload", str(world.model))
    assert here.exit_code == 2
    assert "TIGHTFIT_URL is not set" in here.err
    assert re.fullmatch(r"upload:u[0-9a-f]{12}\n", there.out), there.err
    _, told = both("submit", there.out.strip(), "--budget", "4bpw", "--calibration", str(world.text), "--dry-run")
    assert told.exit_code == 0, told.err


def test_a_home_that_is_named_is_meant(world: World, both: Both) -> None:
    """Whatever the environment says; and where no service answers, what to do."""
    home = str(world.service.settings.home)
    same(both("status", "--home", home))
