"""A Ray cluster of two nodes on one host: a node goes away amid a job, workers change in number, and nodes differ."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from space.errors import UsageError
from space.inventory import Inventory
from storage.records import JobState, TrialState
from tests.chaos.campaign import front_digest
from tests.chaos.world import NODE, two_nodes
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from workers.pool.cluster import View, _check
from workers.pool.node_caches import folder_here, leave_marker
from workers.tasks import Workspace

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300.0
Tiny = Callable[[TinyKind], Path]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Give a cluster of two nodes with one CPU each; no test here shares Ray with this process."""
    with two_nodes() as cluster:
        cluster.add_node(**NODE)
        yield cluster


def start(service: PlainService, address: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command line on the cluster."""
    environment = os.environ | {"RAY_ADDRESS": address, "TIGHTFIT_HOME": str(service.settings.home)}
    environment |= {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tightfit", *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def until_measured(service: PlainService, job_id: str, count: int, process: "subprocess.Popen[str]") -> None:
    """Wait for so many complete trials."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while sum(t.state is TrialState.COMPLETE for t in service.store.list_trials(job_id)) < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def test_too_many_workers_name_what_exists(cluster: Any, service: PlainService, tiny: Tiny, text_file: Path) -> None:
    """One clear error and a job that can be resumed."""
    job_id = service.submit(small_spec(tiny("tied"), text_file, workers=9)).job_id
    process = start(service, cluster.address, "run", job_id)
    said = process.communicate(timeout=LIMIT_SECONDS)[1]
    assert process.returncode == 2
    assert "--workers 9: Ray has" in said.splitlines()[-1]
    assert service.requeue(job_id).state is JobState.QUEUED


def test_killed_halfway_on_two_nodes_resumed_on_one(
    cluster: Any, service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path
) -> None:
    """A controller is killed, then a node; one worker is left for the rest. MLflow is away for the whole job."""
    other = open_service(tmp_path / "other")
    spec = small_spec(tiny("tied"), text_file, workers=2)
    expected = run_job(other, spec)[1]
    other.store.close()
    job_id = service.submit(spec).job_id
    first = start(service, cluster.address, "run", job_id)
    until_measured(service, job_id, 6, first)
    first.kill()
    first.communicate(timeout=60)
    before = {t.number: t.measurement for t in service.store.list_trials(job_id) if t.state is TrialState.COMPLETE}
    second = start(service, cluster.address, "resume", job_id, "--workers", "2")
    until_measured(service, job_id, len(before) + 4, second)
    node = next(node for node in cluster.list_all_nodes() if node is not cluster.head_node)
    for process in node.all_processes["raylet"]:
        os.kill(process.process.pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)
    said = second.communicate(timeout=LIMIT_SECONDS)[1]
    assert second.returncode == 0, said[-3000:]
    trials = {t.number: t for t in service.store.list_trials(job_id)}
    assert {number: trials[number].measurement for number in before} == before
    assert {t.state for t in trials.values()} == {TrialState.COMPLETE}
    assert service.store.get_job(job_id).state is JobState.DONE
    assert front_digest(service.front(job_id)) == front_digest(expected)


def test_job_waits_for_a_node_that_went_away(cluster: Any, service: PlainService, tiny: Tiny, text_file: Path) -> None:
    """The one killed before: a job that asks for it begins, and goes on once there is another one."""
    job_id = service.submit(small_spec(tiny("tied"), text_file, workers=2, max_trials=14)).job_id
    process = start(service, cluster.address, "run", job_id)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not service.store.get_job(job_id).phase.startswith("starting workers"):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    cluster.add_node(**NODE)
    said = process.communicate(timeout=LIMIT_SECONDS)[1]
    assert process.returncode == 0, said[-3000:]
    assert service.store.get_job(job_id).state is JobState.DONE


SAME = View("3.11", "c", sees_model=True, cache_folder="/cache", is_shared=True)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (replace(SAME, python="3.9"), r"Ray node far \(10\.0\.0\.9\) runs other code"),
        (replace(SAME, code="d"), "runs other code .*install the same wheel of tightfit"),
        (replace(SAME, sees_model=False), "does not see /model: keep the model on a path"),
        (
            replace(SAME, cache_folder="", is_shared=False),
            "does not see /cache and can write no folder .* start its Ray with TIGHTFIT_HOME",
        ),
    ],
)
def test_node_that_differs_is_named(seen: View, told: str) -> None:
    """Before anything is measured on it; a folder of its own is no difference."""
    workspace = Workspace("/model", "/cache", "m", Inventory((), (), None, 2))
    name = "Ray node far (10.0.0.9)"
    for good in (SAME, replace(SAME, cache_folder="/own", is_shared=False)):
        _check(name, good, SAME, workspace)
    with pytest.raises(UsageError, match=told):
        _check(name, seen, SAME, workspace)


def test_each_node_has_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the marker is seen, the controller's folder; else the same one in TIGHTFIT_HOME, or in /tmp, or none."""
    shared = str(tmp_path / "home" / "cache" / "model-1")
    marker = leave_marker(shared)
    assert folder_here(shared, str(marker)) == shared
    marker.unlink()
    monkeypatch.setenv("TIGHTFIT_HOME", str(tmp_path / "other"))
    assert folder_here(shared, str(marker)) == str(tmp_path / "other" / "cache" / "model-1")
    (tmp_path / "file").touch()
    monkeypatch.setenv("TIGHTFIT_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    expected = tmp_path / "tmp" / f"tightfit-{os.getuid()}" / "cache" / "model-1"
    assert folder_here(shared, str(marker)) == str(expected)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "file"))
    assert folder_here(shared, str(marker)) is None
