"""Controllers in processes of their own on one database: who runs what, and what one writes that lost its job."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError

from storage.open_store import open_store
from storage.records import JobState, Trial, TrialState
from storage.store import Store
from tests.search.scripted import spec

ROOT = Path(__file__).parents[2]
NUM_JOBS, NUM_CONTROLLERS = 200, 4
WAIT_SECONDS = 240.0
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    """Give the store."""
    store = open_store(database_url)
    yield store
    store.close()


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Start]:
    """Give a function that starts a scripted controller; all are gone afterwards."""
    started: list[subprocess.Popen[str]] = []

    def start(
        lease_seconds: float, seconds: float, kind: str = "scripted", clock_shift: float = 0.0
    ) -> subprocess.Popen[str]:
        arguments = [
            database_url,
            str(tmp_path / "cache"),
            str(tmp_path / "runs"),
            str(lease_seconds),
            str(seconds),
            kind,
        ]
        command = [sys.executable, "-W", "error", "-m", "tests.chaos.scripted_controller", *arguments]
        environment = os.environ | {"CLOCK_SHIFT_SECONDS": str(clock_shift)}
        started.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=60)


def runs(tmp_path: Path) -> list[tuple[str, int]]:
    """Return (job, token) of every run that was begun."""
    lines = (tmp_path / "runs").read_text().splitlines() if (tmp_path / "runs").exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def until(what: Callable[[], bool]) -> None:
    """Wait for something, for a bounded time."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stop_between_writes(process: "subprocess.Popen[str]", database_url: str) -> None:
    """Stop a controller while it holds no lock of the database, which nobody could take from it."""
    engine = create_engine(database_url, connect_args={"timeout": 0.1} if database_url.startswith("sqlite") else {})
    for _ in range(200):
        os.kill(process.pid, signal.SIGSTOP)
        if _is_free(engine):
            engine.dispose()
            return
        os.kill(process.pid, signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError("the controller is always amid a write")


def _is_free(engine: Engine) -> bool:
    try:
        with engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SET LOCAL lock_timeout = 100"))
            connection.execute(text("UPDATE jobs SET position = position"))
    except OperationalError:
        return False
    return True


def ended(processes: Sequence["subprocess.Popen[str]"]) -> list[str]:
    """Wait for processes to end well; return what each said."""
    said = [process.communicate(timeout=WAIT_SECONDS)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said
    return said


def test_each_queued_job_runs_once(store: Store, start: Start, tmp_path: Path) -> None:
    """Four controllers share two hundred jobs: each is claimed once, by one of them, and is DONE."""
    for number in range(NUM_JOBS):
        store.create_job(f"job{number}", spec())
    ended([start(30.0, 0.0, "tiny") for _ in range(NUM_CONTROLLERS)])
    assert sorted(runs(tmp_path)) == sorted((f"job{number}", 1) for number in range(NUM_JOBS))
    jobs = store.list_jobs()
    assert {(job.state, job.token, job.holder) for job in jobs} == {(JobState.DONE, 1, None)}
    assert all([t.state for t in store.list_trials(job.job_id)] == [TrialState.COMPLETE] * 3 for job in jobs)


def test_stopped_controller_writes_nothing_after_its_lease(
    store: Store, database_url: str, start: Start, tmp_path: Path
) -> None:
    """SIGSTOP past the lease, another controller ends the job, SIGCONT: one sentence, and not one write."""
    store.create_job("one", spec(max_trials=20))
    first = start(1.0, 0.1)
    until(lambda: sum(t.state is TrialState.COMPLETE for t in _trials(store)) >= 3)
    stop_between_writes(first, database_url)
    before = {t.number: t.measurement for t in _trials(store) if t.state is TrialState.COMPLETE}
    second = start(1.0, 0.0)
    (said,) = ended([second])
    assert "Job one is taken over" in said
    after = (store.get_job("one"), store.list_trials("one"))
    os.kill(first.pid, signal.SIGCONT)
    (said,) = ended([first])
    assert said.count("Job one is no longer held by process") == 1
    assert "this controller stops" in said
    assert (store.get_job("one"), store.list_trials("one")) == after
    assert after[0].state is JobState.DONE
    assert {t.number: t.measurement for t in after[1] if t.number in before} == before
    assert runs(tmp_path) == [("one", 1), ("one", 2)]


@pytest.mark.parametrize("shift", [-3600.0, 3600.0])
def test_clocks_may_differ_by_an_hour(store: Store, start: Start, tmp_path: Path, shift: float) -> None:
    """A controller whose clock was set takes over a dead one's job, and loses its own to nobody."""
    store.create_job("one", spec(max_trials=20))
    first = start(3.0, 0.1)
    until(lambda: sum(t.state is TrialState.COMPLETE for t in _trials(store)) >= 3)
    first.kill()
    ended([start(3.0, 0.1, "scripted", shift), start(3.0, 0.1)])
    job = store.get_job("one")
    assert (job.state, job.token, runs(tmp_path)) == (JobState.DONE, 2, [("one", 1), ("one", 2)])


@pytest.mark.parametrize(("request_", "state"), [("request_pause", JobState.PAUSED), ("request_cancel", "CANCELLED")])
def test_requests_reach_another_process(store: Store, start: Start, request_: str, state: str) -> None:
    """A job that runs elsewhere stops within seconds, keeps its front so far, and ends when it is resumed."""
    store.create_job("one", spec(max_trials=20))
    process = start(30.0, 0.1)
    until(lambda: sum(t.state is TrialState.COMPLETE for t in _trials(store)) >= 3)
    asked = time.monotonic()
    for _ in range(2):
        getattr(store, request_)("one")
    until(lambda: store.get_job("one").state is not JobState.RUNNING)
    assert time.monotonic() - asked < 60
    found = store.get_job("one")
    assert (found.state, found.holder) == (state, None)
    assert found.document is not None
    assert found.document.state == state
    ended([process])
    store.resume_job("one")
    ended([start(30.0, 0.0)])
    assert store.get_job("one").state is JobState.DONE


def test_told_to_go_a_controller_gives_its_job_back(store: Store, start: Start) -> None:
    """Another one has it at once, whatever the time of the lease."""
    store.create_job("one", spec(max_trials=20))
    first = start(3600.0, 0.1)
    until(lambda: sum(t.state is TrialState.COMPLETE for t in _trials(store)) >= 3)
    first.terminate()
    first.communicate(timeout=60)
    assert store.get_job("one").state is JobState.QUEUED
    ended([start(3600.0, 0.0)])
    assert (store.get_job("one").state, store.get_job("one").token) == (JobState.DONE, 2)


def _trials(store: Store) -> Sequence[Trial]:
    return store.list_trials("one")
