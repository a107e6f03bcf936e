"""A recovery is a task on a point: its own point on the front, exported and verified; killed, it goes on."""

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from space.errors import SpecError, StoreError, UsageError
from space.results.document import FrontPoint
from storage.point_tasks import TaskKind, TaskState
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.jobs.trying import try_point
from tightfit.tasks.asked_recovery import RecoverWish
from workers.recover import scale_training
from workers.recover.distill import Course
from workers.runtime.prompt import Prompt

Tiny = Callable[[TinyKind], Path]
ROOT = Path(__file__).parents[2]
SHORT = Course(steps=24, batch=4, learning_rate=5e-3, warmup=2, judge_every=6, checkpoint_seconds=0.0)
# A process that recovers and kills itself after so many steps of its own; without a number it ends by itself.
KILLED = """
import os, signal, sys
from pathlib import Path
from tests.end_to_end.jobs import open_service
from tests.end_to_end.test_recovery import SHORT
from workers.recover import distill, recovery, scale_training

scale_training.SCALES_COURSE = SHORT
recovery.paired_interval = lambda *_: (-2.0, -1.0)
left, step = int(sys.argv[3]), distill.Distillation._stepped

def stepped(self, state):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, state)

distill.Distillation._stepped = stepped
open_service(Path(sys.argv[1])).run_recovery(sys.argv[2])
"""


@pytest.fixture(scope="module")
def finished(
    tiny: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PlainService, str]]:
    """Give a service with one finished job."""
    service = open_service(tmp_path_factory.mktemp("finished"))
    yield service, run_job(service, small_spec(tiny("tied"), text_file, max_trials=14, budget="3bpw"))[0]
    service.store.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train for a few steps only, and keep whatever is made."""
    monkeypatch.setattr(scale_training, "SCALES_COURSE", SHORT)
    monkeypatch.setattr("workers.recover.recovery.paired_interval", lambda *_: (-2.0, -1.0))


def _origin(service: PlainService, job_id: str) -> FrontPoint:
    """Return the smallest point of those that the search made."""
    return min((p for p in service.front(job_id).front if p.recovered is None), key=lambda p: p.size_bytes)


def _made(service: PlainService, job_id: str) -> FrontPoint:
    """Return the newest recovered point."""
    task = service.tasks(job_id)[0]
    return next(p for p in service.front(job_id).front if p.recovered and p.recovered.task == task.task_id)


@pytest.mark.usefixtures("reload_here")
def test_a_point_is_recovered_exported_and_recovered_again(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """It stands behind the point it was made of, in the same bytes, and its files are what was measured."""
    service, job_id = finished
    before, told = service.front(job_id), list[str]()
    origin = before.recommended
    assert origin is not None
    with pytest.raises(SpecError, match="'magic' is no recovery; there are refit, scales"):
        service.recover(job_id, RecoverWish(method="magic"))
    with pytest.raises(UsageError, match="must be above 0"):
        service.recover(job_id, RecoverWish(minutes=0))
    with pytest.raises(UsageError, match="--processes 3: 1, 2, 4 or 8"):
        service.recover(job_id, RecoverWish(processes=3))
    with pytest.raises(UsageError, match="give --processes 2 or more"):
        service.recover(job_id, RecoverWish(sharding="zero-3"))
    with pytest.raises(UsageError, match="--temperature 0 must be above 0"):
        service.recover(job_id, RecoverWish(temperature=0.0))
    task = service.recover(job_id, RecoverWish(method="scales"), told.append)
    assert (task.state, task.out, task.result is None) == (TaskState.DONE, "", False)
    assert told[0].startswith("scales: about 1 min on one core, and ")
    assert told[1].startswith("scales: step 0 of 24, KL ")
    assert told[-1].startswith("scales: KL ")
    made = _made(service, job_id)
    assert made.recovered is not None
    assert (made.point, made.size_bytes, made.trial) == (f"{origin.point}-scales", origin.size_bytes, origin.trial)
    assert made.kl_divergence < origin.kl_divergence
    assert made.kl_divergence_ci95[0] < made.kl_divergence < made.kl_divergence_ci95[1]
    assert (made.recovered.methods, made.recovered.steps, made.recovered.seed) == (("scales",), 24, 0)
    versus = made.recovered.versus_origin  # whether so few steps are measurable on so few sequences is chance
    assert (versus.other, versus.measurable) == (origin.point, versus.difference_ci95[1] < 0)
    front = service.front(job_id)
    assert len(front.front) == len(before.front) + 1
    assert front.recommended == made
    exported = service.export(job_id, tmp_path / "out")
    assert (exported.point, exported.refit_kl_divergence) == (made.point, None)
    assert exported.kl_divergence == pytest.approx(made.kl_divergence, abs=1e-6)
    assert exported.size_bytes == made.size_bytes
    record = json.loads((tmp_path / "out" / "compression.json").read_text())
    assert record["recovered"]["methods"] == ["scales"]
    assert str(tmp_path.parent.parent) not in json.dumps(record["recovered"])
    assert "made better after the search" in (tmp_path / "out" / "README.md").read_text()
    assert made.point in service.report(job_id)
    assert _answer(service, job_id, made.point) != _answer(service, job_id, origin.point)
    with pytest.raises(SpecError, match="begins with what the search measured"):
        service.recover(job_id, RecoverWish(point=made.point, method="refit"))
    assert service.tasks(job_id)[0].state is TaskState.FAILED
    again = service.recover(job_id, RecoverWish(point=made.point, method="scales", seed=1))
    assert again.result is not None
    assert _made(service, job_id).point == f"{origin.point}-scales-scales"
    assert service.free_unneeded(dry_run=False).num_files > 0
    assert service.export(job_id, tmp_path / "kept", point=made.point).verified


def _answer(service: PlainService, job_id: str, point: str) -> str:
    """Return what a point answers."""
    job, front = service.store.get_job(job_id), service.front(job_id)
    prompt = Prompt("import os", max_tokens=24, temperature=1.0)
    pieces = list(try_point(job, front, service.plans(front), point, prompt))
    return "".join(piece.text for piece in pieces if piece.who == "point")


def test_by_default_the_cheapest_that_helps(
    finished: tuple[PlainService, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refit first, then scales, as long as each takes enough off; what is near to dense is not tried at all."""
    service, job_id = finished
    smallest = _origin(service, job_id).point
    task = service.recover(job_id, RecoverWish(point=smallest))
    assert task.result is not None
    assert task.result["recoveries"][0]["method"] == "refit"
    assert all(found["kept"] for found in task.result["recoveries"])
    intervals = iter([(-1.0, 1.0), *[(-2.0, -1.0)] * 9])  # refit does not help: the next one is tried all the same
    monkeypatch.setattr("workers.recover.recovery.paired_interval", lambda *_: next(intervals))
    task = service.recover(job_id, RecoverWish(point=smallest, seed=8))
    assert task.result is not None
    assert [(f["method"], f["kept"]) for f in task.result["recoveries"][:2]] == [("refit", False), ("scales", True)]
    monkeypatch.setattr("tightfit.jobs.recovering._HELPLESS_KL", 1e9)
    told = service.recover(job_id, RecoverWish(point=smallest)).result
    assert told is not None
    assert told["point"] is None
    assert "cannot be helped" in told["told"]


def test_a_job_that_asks_for_it(finished: tuple[PlainService, str], tiny: Tiny, text_file: Path) -> None:
    """Its recommended point is recovered in the same run; what cannot help is told, and the job is DONE."""
    service, _ = finished
    asked = {"max_trials": 14, "budget": "3bpw"}
    job_id, front = run_job(service, small_spec(tiny("tied"), text_file, **asked, recover="scales"))
    (task,) = service.tasks(job_id)
    assert (task.kind, task.state, task.user) == (TaskKind.RECOVER, TaskState.DONE, service.store.get_job(job_id).user)
    assert front.recommended is not None
    assert front.recommended.recovered is not None
    assert front.recommended.recovered.task == task.task_id
    job_id, front = run_job(service, small_spec(tiny("tied"), text_file, **asked, recover="restore"))
    assert service.tasks(job_id) == []
    assert all(point.recovered is None for point in front.front)
    log = service.settings.log_path(job_id).read_text()
    assert "--recover restore: --method restore finds nothing to change in" in log
    with pytest.raises(SpecError, match="--recover magic: magic is not known; there are auto, refit, scales"):
        small_spec(tiny("tied"), text_file, recover="magic")


def _killed(service: PlainService, task_id: str, steps: int) -> int:
    command = [sys.executable, "-c", KILLED, str(service.settings.home), task_id, str(steps)]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _levels(service: PlainService, made: FrontPoint) -> list[bytes]:
    """Return the bytes of a recovered point's norms and biases, and its name in the cache."""
    assert made.recovered is not None
    name = made.recovered.levels
    found = sorted(service.settings.cache_folder.rglob(f"recovered/{name[:16]}/tightfit-replaced.safetensors"))
    return [name.encode(), *(path.read_bytes() for path in found)]


def _check_kills(service: PlainService, job_id: str, kills: list[int], seed: int) -> None:
    wish = RecoverWish(point=_origin(service, job_id).point, method="scales", seed=seed)
    service.recover(job_id, wish)
    whole = _made(service, job_id)
    wanted = _levels(service, whole)
    assert len(wanted) == 2
    for folder in [*service.settings.cache_folder.glob("*/recover*")]:
        shutil.rmtree(folder)
    task = service.queue_recovery(job_id, wish)
    for steps in kills:
        assert _killed(service, task.task_id, steps) == -signal.SIGKILL
        assert service.requeue_task(task.task_id).state is TaskState.QUEUED
    assert _killed(service, task.task_id, 0) == 0
    made = _made(service, job_id)
    assert made.recovered is not None
    assert made.kl_divergence == whole.kl_divergence
    assert _levels(service, made) == wanted
    assert whole.recovered is not None
    assert (made.recovered.steps, made.recovered.levels) == (whole.recovered.steps, whole.recovered.levels)


def test_killed_it_goes_on(finished: tuple[PlainService, str]) -> None:
    """Killed in the middle, it ends in the weights of a run that nobody disturbed."""
    _check_kills(*finished, [9], seed=2)


@pytest.mark.usefixtures("reload_here")
def test_values_that_have_gone_are_missed(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """They follow from no record, so that an export says how to make them again."""
    service, job_id = finished
    service.recover(job_id, RecoverWish(point=_origin(service, job_id).point, method="scales", seed=5))
    made = _made(service, job_id)
    assert made.recovered is not None
    shutil.rmtree(next(service.settings.cache_folder.glob("*/recovered")))
    with pytest.raises(StoreError, match="`tightfit recover` makes them again"):
        service.export(job_id, tmp_path / "out", point=made.point)


@pytest.mark.slow
@pytest.mark.timeout(3600)  # a dozen processes that start afresh
def test_killed_ten_times(finished: tuple[PlainService, str]) -> None:
    """At random moments, each a few steps after the last one."""
    _check_kills(*finished, [random.Random(7).randint(2, 4) for _ in range(10)], seed=3)
