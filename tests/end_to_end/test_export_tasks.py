"""An export is a recorded task: it waits, whoever works runs it, it outlives its process, and ends verified."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from space.errors import InfeasibleBudgetError, JobFailedError, OutputError, StateError, VerificationError
from storage.in_memory import MemoryStore
from storage.leases.deaths import MAX_DEATHS
from storage.leases.lease import Silence, host_name
from storage.point_tasks import PointTask, TaskLease, TaskState
from storage.store import Store
from tests.end_to_end.jobs import PlainService, Quiet, open_service, run_job, small_spec
from tests.storage.values import ASKED, spec
from tests.workers.tiny_models import TinyKind
from tightfit.work import Server
from workers.models.digests import file_digest

Tiny = Callable[[TinyKind], Path]
ROOT = Path(__file__).parents[2]
# A process that exports, and kills itself where it is told to: "kept" is just before the folder is put in place, and
# "placed" just after it, before the record says so.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.end_to_end.jobs import open_service
from tightfit.tasks.task_runs import TaskSteps
from storage.leases import outage_retry

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(verb, when):
    def call(self, *arguments, **options):
        answer = verb(self, *arguments, **options)
        if when(*arguments):
            die()
        return answer
    return call

moment = sys.argv[4]
TaskSteps.reach = dying(TaskSteps.reach, lambda step, share: step.startswith(moment))
TaskSteps.keep = dying(TaskSteps.keep, lambda result: moment == "kept")
if moment == "placed":
    outage_retry._Patient.set_task_state = lambda *_: die()
open_service(Path(sys.argv[1])).export(sys.argv[2], Path(sys.argv[3]), refit=moment.startswith("refit"))
"""


MORE = ("reading", "refit: block 1", "loading", "kept")


@pytest.fixture(scope="module")
def finished(
    tiny: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PlainService, str]]:
    """Give a service with one finished job."""
    service = open_service(tmp_path_factory.mktemp("finished"))
    yield service, run_job(service, small_spec(tiny("tied"), text_file, max_trials=14))[0]
    service.store.close()


def newest(service: PlainService) -> PointTask:
    """Return the newest task."""
    return service.tasks()[0]


def check_whole(out: Path, task: PointTask) -> None:
    """Fail unless a folder holds what its task says, and nothing lies beside it."""
    assert (task.state, task.holder, task.share_done, task.error) == (TaskState.DONE, None, 1.0, None)
    assert task.result is not None
    record = json.loads((out / "compression.json").read_text())
    assert record["sha256"] == task.result["sha256"] == {"model.safetensors": file_digest(out / "model.safetensors")}
    assert record["point"] == task.point == task.result["point"]
    assert [path for path in out.parent.iterdir() if path.name.startswith(".")] == []


def work(service: PlainService) -> list[str]:
    """Work until nothing waits; return what was told of tasks."""
    told: list[str] = []
    service.serve(Quiet(), until_idle=True, tell=told.append)
    return told


@pytest.mark.usefixtures("reload_here")
def test_an_export_is_recorded(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """As it goes: its point, its steps, its result, and events of its job; the answer is the one of the record."""
    service, job_id = finished
    last = service.store.list_events(job_id)[-1].seq
    exported = service.export(job_id, tmp_path / "out", refit=True)
    task = newest(service)
    check_whole(tmp_path / "out", task)
    assert (task.job_id, task.host, task.token, task.out) == (job_id, host_name(), 1, str(tmp_path / "out"))
    assert task.result is not None
    assert task.result["kl_divergence"] == exported.kl_divergence
    best = service.front(job_id).recommended
    assert best is not None
    assert (task.point, task.trial) == (best.point, best.trial)
    facts = [event.facts for event in service.store.list_events(job_id, last)]
    steps = [fact.get("progress", "") for fact in facts]
    assert facts[0] == {"task": task.task_id, "kind": "export", "point": best.point, "state": "RUNNING"}
    assert facts[-1]["state"] == "DONE"
    assert "refit: block 2 of 2" in steps
    assert steps.index("reading levels") < steps.index("writing the files")
    shares = [fact["share_done"] for fact in facts if "share_done" in fact]
    assert shares == sorted(shares)


@pytest.mark.parametrize("moment", ["writing", "placed", *(pytest.param(m, marks=pytest.mark.slow) for m in MORE)])
@pytest.mark.usefixtures("reload_here")
def test_a_killed_export_ends_verified(finished: tuple[PlainService, str], tmp_path: Path, moment: str) -> None:
    """SIGKILL at any moment: no folder or a whole one, and whoever works next brings it to its end."""
    service, job_id = finished
    out = tmp_path / "out"
    command = [sys.executable, "-c", KILLED, str(service.settings.home), job_id, str(out), moment]
    killed = subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=240, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = newest(service)
    assert left.state is TaskState.RUNNING
    assert out.exists() == (moment == "placed")
    inode = out.stat().st_ino if out.exists() else None
    told = work(service)
    done = service.store.get_task(left.task_id)
    assert (done.token, done.deaths) == (2, 1)
    check_whole(out, done)
    assert inode in (None, out.stat().st_ino)  # what is whole is not made again
    assert told[-1] == f"{left.task_id}  DONE"


@pytest.mark.usefixtures("reload_here")
def test_a_queued_export_is_run_by_whoever_works_on_its_host(
    finished: tuple[PlainService, str], tmp_path: Path
) -> None:
    """One for another host is left to that, until somebody here names it."""
    service, job_id = finished
    here = service.queue_export(job_id, tmp_path / "here", point="p0", target="packed", refit=False)
    anywhere = service.queue_export(job_id, tmp_path / "anywhere", refit=False, any_host=True)
    asked = replace(ASKED, job_id=job_id, trial=here.trial, options=here.options, out=str(tmp_path / "there"))
    there = service.store.create_task("t00000a", replace(asked, host="elsewhere"))
    work(service)
    check_whole(tmp_path / "here", service.store.get_task(here.task_id))
    check_whole(tmp_path / "anywhere", service.store.get_task(anywhere.task_id))
    assert service.store.get_task(there.task_id).state is TaskState.QUEUED
    assert service.run_export(there.task_id).path == str(tmp_path / "there")
    with pytest.raises(StateError, match=r"Task t00000a is DONE; only QUEUED ones run"):
        service.run_export(there.task_id)


@pytest.mark.usefixtures("reload_here")
def test_a_cancelled_export_leaves_nothing(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """It ends at its next step; resumed, it begins again."""
    service, job_id = finished

    def cancel(_: str) -> None:
        service.cancel_task(newest(service).task_id)

    with pytest.raises(JobFailedError, match=r"Export t\w+ was cancelled; `tightfit resume t\w+` begins again\."):
        service.export(job_id, tmp_path / "out", refit=True, tell=cancel)
    task = newest(service)
    assert task.state is TaskState.CANCELLED
    assert list(tmp_path.iterdir()) == []
    assert service.requeue_task(task.task_id).state is TaskState.QUEUED
    assert service.run_export(task.task_id).verified
    check_whole(tmp_path / "out", newest(service))
    assert service.requeue_task(task.task_id).state is TaskState.DONE


def test_an_export_whose_process_has_gone_can_be_cancelled(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """At once, and what it had begun is deleted."""
    service, job_id = finished
    asked = replace(ASKED, job_id=job_id, out=str(tmp_path / "out"))
    task = service.store.create_task("t00000b", asked, f"{host_name()}:1:0:none")
    begun = tmp_path / ".out.t00000b.tmp"
    begun.mkdir()
    assert service.cancel_task(task.task_id).state is TaskState.RUNNING  # another machine's, for all we know
    assert begun.exists()
    service.store.set_task_state(task.task_id, TaskState.QUEUED)
    task = service.store.create_task("t00000c", replace(asked, out=str(tmp_path / "gone")), "gone")
    (begun := tmp_path / ".gone.t00000c.tmp").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("tightfit.tasks.task_verbs.is_gone", lambda holder: holder == "gone")
        assert service.cancel_task(task.task_id).state is TaskState.CANCELLED
    assert not begun.exists()


def test_what_can_be_refused_makes_no_task(
    finished: tuple[PlainService, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what cannot is recorded with its reason."""
    service, job_id = finished
    before = len(service.tasks())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(InfeasibleBudgetError, match="smallest measured one has"):
        service.export(job_id, tmp_path / "out", budget="1bpw")
    with pytest.raises(OutputError, match="already there and not empty"):
        service.queue_export(job_id, tmp_path / "taken")
    assert len(service.tasks()) == before
    monkeypatch.setattr("tightfit.export.verify._reload", _lies)
    with pytest.raises(VerificationError, match="not what was promised"):
        service.export(job_id, tmp_path / "out", refit=False)
    task = newest(service)
    assert task.state is TaskState.FAILED
    assert str(task.error).startswith(f"{tmp_path / 'out'}: the export is not what was promised: a lie")


def _lies(*_: object) -> None:
    raise VerificationError("a lie")


def test_a_task_that_all_die_of_has_failed() -> None:
    """With its step and the last holder's name; who resumes it tries again."""

    class Died(BaseException):
        pass

    store: Store = MemoryStore()
    store.create_job("one", spec())
    store.request_cancel("one")
    store.create_task("t1", ASKED)

    def die(lease: TaskLease) -> None:
        store.holding(lease).update_task("t1", progress="refit")
        raise Died

    def work() -> PointTask:
        with suppress(Died):
            Server(store, lambda _: None, Silence(0.02), 0.005, run_task=die).serve(until_idle=True)
        return store.get_task("t1")

    for _ in range(2):
        for death in range(MAX_DEATHS):
            assert (work().state, store.get_task("t1").deaths) == (TaskState.RUNNING, death)
        task = work()
        assert (task.state, task.holder) == (TaskState.FAILED, None)
        assert str(task.error).startswith(f"{MAX_DEATHS} controllers in a row ended or fell silent at task t1 (refit)")
        assert store.resume_task("t1").deaths == 0
