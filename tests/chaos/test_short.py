"""The short form of the campaign: scripted searches under seeded kills end as undisturbed ones do."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from search.job import job_steps
from space.errors import OutageError
from storage.open_store import open_store
from storage.records import Job, JobState, TrialState
from storage.store import Store
from tests.postgres import Postgres, find_programs, private_postgres
from tests.search.house import comparable, undisturbed
from tests.search.scripted import prepared, spec

ROOT = Path(__file__).parents[2]
MAX_TRIALS = 30
LIMIT_SECONDS = 240.0


@dataclass
class Scene:
    """A database, two controllers on it, and a server that can be killed."""

    url: str
    folder: Path
    postgres: Postgres | None
    processes: list["subprocess.Popen[bytes]"] = field(default_factory=list)

    def keep_controllers(self, seconds: float) -> None:
        """Start controllers until two run."""
        arguments = [self.url, str(self.folder / "cache"), str(self.folder / "runs"), "3.0", str(seconds), "scripted"]
        self.processes = [process for process in self.processes if process.poll() is None]
        while len(self.processes) < 2:
            command = [sys.executable, "-m", "tests.chaos.scripted_controller", *arguments]
            with (self.folder / "log").open("ab") as log:
                self.processes.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))

    def kill_holder(self, store: Store) -> bool:
        """Kill the controller that holds the job; False while it is dead already, its lease not yet at its end."""
        holder = str(store.get_job("one").holder)
        for process in self.processes:
            if f":{process.pid}:" in holder and process.poll() is None:
                process.kill()
                process.wait(60)
                return True
        return False

    def restart_postgres(self, seconds: float) -> bool:
        """Kill the postmaster and start it again after some time."""
        assert self.postgres is not None
        self.postgres.kill()
        time.sleep(seconds)
        self.postgres.start()
        return True


@pytest.fixture
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Scene]:
    """Give a scene on SQLite, or on a PostgreSQL of its own; nothing of it is left."""
    with ExitStack() as stack:
        postgres = None
        if request.param == "postgres":
            programs = find_programs()
            if programs is None:
                pytest.skip("no PostgreSQL in /usr/lib/postgresql")
            postgres = stack.enter_context(private_postgres(programs))
        scene = Scene(postgres.url if postgres else f"sqlite:///{tmp_path}/store.db", tmp_path, postgres)
        yield scene
        for process in scene.processes:
            process.kill()
            process.wait(60)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Script the models of this process too."""
    monkeypatch.setattr(job_steps, "prepare", prepared)
    monkeypatch.setattr(job_steps, "model_digest", lambda _: "m" * 64)


def ended(scene: Scene, store: Store, disturb: Callable[[int, Job], None]) -> Job:
    """Keep controllers until the job rests; `disturb` hears again and again how many trials are complete."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        scene.keep_controllers(0.1)
        with suppress(OutageError):
            job = store.get_job("one")
            count = sum(t.state is TrialState.COMPLETE for t in store.list_trials("one"))
            if job.state.rests:
                return job
            disturb(count, job)
        time.sleep(0.02)
    raise AssertionError(f"stuck: {store.get_job('one')}\n{(scene.folder / 'log').read_text()[-3000:]}")


def check(store: Store, job: Job) -> None:
    """Compare a job that was disturbed with one that was not."""
    expected, _ = undisturbed(max_trials=MAX_TRIALS)
    assert job.state is JobState.DONE, job.error
    trials = store.list_trials("one")
    assert [t.number for t in trials] == list(range(len(trials)))
    assert {t.state for t in trials} == {TrialState.COMPLETE}
    assert job.document is not None
    assert comparable(job.document) == expected


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("scene", ["sqlite", "postgres"], indirect=True)
def test_killed_controllers_and_servers_change_nothing(scene: Scene) -> None:
    """Five kills at seeded trials: no trial is lost or made twice, and the front is the undisturbed one."""
    rng, store = random.Random(0), open_store(scene.url)
    moments = sorted(rng.sample(range(1, MAX_TRIALS - 2), 5))
    kills = {at: "postgres" if scene.postgres and n % 2 else "controller" for n, at in enumerate(moments)}
    kinds = list(kills.values())
    store.create_job("one", spec(max_trials=MAX_TRIALS))

    def disturb(count: int, _: Job) -> None:
        for at in [at for at in kills if at <= count][:1]:  # one at a time: a holder can be killed once
            if scene.restart_postgres(1.0) if kills[at] == "postgres" else scene.kill_holder(store):
                del kills[at]

    job = ended(scene, store, disturb)
    assert kills == {}
    assert job.token == 1 + sum(kind == "controller" for kind in kinds)
    check(store, job)
    store.close()


@pytest.mark.usefixtures("scripted")
@pytest.mark.parametrize("scene", ["postgres"], indirect=True)
def test_database_may_be_gone_for_half_a_minute(scene: Scene) -> None:
    """The controller waits for it and goes on; nobody else takes its job."""
    store, left = open_store(scene.url), [30.0]
    store.create_job("one", spec(max_trials=MAX_TRIALS))

    def disturb(count: int, _: Job) -> None:
        if count >= 5 and left:
            scene.restart_postgres(left.pop())

    job = ended(scene, store, disturb)
    assert (left, job.token) == ([], 1)
    assert "Trying again for 120 s" in (scene.folder / "log").read_text()
    check(store, job)
    store.close()
