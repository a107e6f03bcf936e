"""The commands that keep jobs and the database in order."""

import shutil
import subprocess
import sys
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from storage.leases.lease import holder_name
from storage.open_store import open_store
from storage.records import JobState
from storage.store import Store
from tests.cli.conftest import Cli
from tests.storage.values import spec
from tightfit.config import ANOTHER_HOME

GOLDEN = Path(__file__).parents[1] / "storage" / "sql" / "golden"


@pytest.fixture
def store(home: Path) -> Store:
    """Give the store of the home, with job "one"."""
    store = open_store(f"sqlite:///{home}/tightfit.db")
    store.create_job("one", spec(model="/no/such/model"))
    return store


def gone() -> str:
    """Return the name of a controller of this machine that has ended."""
    host, pid, start, machine = holder_name().rsplit(":", 3)
    return f"{host}:{pid}:{int(start) + 1}:{machine}"


def test_database_is_checked_and_upgraded(cli: Cli, home: Path) -> None:
    """No database, an older one, the right one: each told in one sentence, with what to do."""
    none = cli("db", "check")
    assert (none.exit_code, none.out) == (4, "")
    assert "There is no database" in none.err
    assert "`tightfit db upgrade`" in none.err
    home.mkdir()
    shutil.copy(GOLDEN / "0001.db", home / "tightfit.db")
    older = cli("db", "check")
    assert older.exit_code == 4
    assert "its tables are at 0001" in older.err
    for verb in ("upgrade", "check"):
        done = cli("db", verb)
        assert done.exit_code == 0
        assert "has this program's tables" in done.out


@pytest.mark.parametrize(("verb", "state"), [("pause", "PAUSED"), ("cancel", "CANCELLED")])
def test_job_that_waits_rests_at_once(cli: Cli, store: Store, verb: str, state: str) -> None:
    """Asked twice, it says the same, and a resumed one is back in the queue, also when that was asked twice."""
    rests = state.lower()
    told = [cli(verb, "one").out for _ in range(3)]
    assert told == [f"Job one is {rests}.\n", *[f"Job one is already {rests}.\n"] * 2]
    told = [cli("resume", "one", "--queue").out for _ in range(2)]
    assert told == ["Job one is queued for `tightfit work`; watch it with `tightfit status one --watch`.\n"] * 2
    assert store.get_job("one").state is JobState.QUEUED


@pytest.mark.parametrize(("end", "exit_code"), [("CANCELLED", 0), ("FAILED", 4)])
def test_job_that_others_took_is_followed(cli: Cli, store: Store, end: str, exit_code: int) -> None:
    """Between a job's making and its start a `tightfit work` may claim it: that is no error, and its end is told."""
    lease = store.claim_job(holder_name(), "one")
    assert lease is not None
    held, found = store.holding(lease), []
    follower = Thread(target=lambda: found.append(cli("run", "one")))
    follower.start()
    held.update_job("one", phase="halfway")
    sleep(0.3)
    held.set_job_state("one", JobState(end), "why" if end == "FAILED" else None)
    follower.join(timeout=60)
    (done,) = found
    assert done.exit_code == exit_code
    assert "another process runs it" in done.err
    assert ("Job one failed: why" in done.err) == (end == "FAILED")


def test_home_that_takes_no_log_is_told(cli: Cli, store: Store, home: Path) -> None:
    """Nothing runs unseen: a job whose log cannot be written is not started."""
    (home / "logs").write_text("a file")
    done = cli("resume", "one", "--detach")
    assert (done.exit_code, done.out) == (2, "")
    assert done.err.endswith("one.log: cannot be written (File exists: " + f"{home}/logs). {ANOTHER_HOME}\n")


@pytest.mark.parametrize(("verb", "told"), [("pause", "pausing"), ("cancel", "stopping")])
def test_job_that_runs_is_asked(cli: Cli, store: Store, verb: str, told: str) -> None:
    """Its controller lives and will read it."""
    assert store.claim_job(holder_name(), "one")
    assert cli(verb, "one").out == f"Job one: {told}.\n"
    assert store.get_job("one").state is JobState.RUNNING


@pytest.mark.parametrize(("verb", "state"), [("pause", "PAUSED"), ("cancel", "CANCELLED")])
def test_job_whose_controller_is_gone_rests_at_once(cli: Cli, store: Store, verb: str, state: str) -> None:
    """Nobody would read the request."""
    assert store.claim_job(gone(), "one")
    assert cli(verb, "one").out == f"Job one is {state.lower()}.\n"


def test_resume_leaves_a_running_job_alone(cli: Cli, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is watched until it shows a sign of life, and a request to pause is taken back."""
    lease = store.claim_job(holder_name(), "one")
    assert lease is not None
    store.request_pause("one")
    monkeypatch.setattr("tightfit.work.time.sleep", lambda _: store.renew(lease))
    assert "is running; watch it" in cli("resume", "one").out
    assert not store.get_job("one").pause_requested


def test_a_home_is_part_of_every_hint(cli: Cli, store: Store, home: Path, tmp_path: Path) -> None:
    """What is printed can be typed: with --home the next command needs it too."""
    assert store.get_job("one")
    shutil.copytree(home, other := tmp_path / "other home")
    told = cli("resume", "one", "--queue", "--home", str(other)).out
    assert f"`tightfit status one --watch --home '{other}'`" in told


def test_resume_takes_a_job_whose_controller_is_gone(cli: Cli, store: Store) -> None:
    """No waiting for its lease."""
    assert store.claim_job(gone(), "one")
    assert "is queued" in cli("resume", "one", "--queue").out
    assert store.get_job("one").state is JobState.QUEUED


def test_work_ends_where_nothing_waits(cli: Cli, store: Store) -> None:
    """With --until-idle; a job that cannot run is FAILED, and the next one is not held up."""
    done = cli("work", "--until-idle")
    assert done.exit_code == 0
    assert "1 jobs were run" in done.err
    job = store.get_job("one")
    assert job.state is JobState.FAILED
    assert "/no/such/model: no such folder" in str(job.error)


def test_work_lets_go_of_what_jobs_loaded(store: Store, home: Path) -> None:
    """Once nothing waits it begins afresh, as the same process, and runs what comes next."""
    program = (
        "import os, sys, tightfit.cli.app as app, tightfit.cli.upkeep as upkeep\n"
        "print('begun', os.getpid(), file=sys.stderr, flush=True)\n"
        "upkeep.REST_SECONDS = 0.5\n"
        "app.main()"
    )
    command = [sys.executable, "-c", program, "work", "--home", str(home)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            begun = f"begun {process.pid}\n"
            assert process.stderr.readline() == begun
            for name in ("one", "two"):
                told = list(iter(process.stderr.readline, begun))
                assert f"Job {name}: " in "".join(told)
                assert told[-1].endswith("nothing waits; what jobs loaded is let go\n")
                assert store.get_job(name).state is JobState.FAILED
                if name == "one":
                    store.create_job("two", spec(model="/no/such/model"))
        finally:
            process.kill()


@pytest.mark.parametrize("seconds", ["0", "soon", "1e9"])
def test_lease_that_is_none(cli: Cli, monkeypatch: pytest.MonkeyPatch, seconds: str) -> None:
    """The setting is named with its bounds."""
    monkeypatch.setenv("TIGHTFIT_LEASE_SECONDS", seconds)
    done = cli("status")
    assert (done.exit_code, done.out) == (2, "")
    assert f"TIGHTFIT_LEASE_SECONDS={seconds} is not a number of seconds from 1 to 3600" in done.err
