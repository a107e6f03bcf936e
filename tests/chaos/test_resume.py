"""A controller killed amid a job, which `tightfit resume` finishes with another number of workers."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.records import JobState, TrialState
from tests.chaos.campaign import front_digest
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 600.0
NUM_BEFORE, MAX_TRIALS = 4, 14
Tiny = Callable[[TinyKind], Path]


def start(service: PlainService, notes: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Start the command line with a Ray of its own; it notes what it measures."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"TIGHTFIT_HOME": str(service.settings.home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tests.chaos.noting_cli", str(notes), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def kill_halfway(service: PlainService, job_id: str, process: "subprocess.Popen[str]") -> None:
    """Kill a controller once some trials are complete and others wait."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        states = [trial.state for trial in service.store.list_trials(job_id)]
        if states.count(TrialState.COMPLETE) >= NUM_BEFORE and TrialState.WAITING in states:
            break
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def expected(tiny: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Give the digest of the undisturbed front."""
    service = open_service(tmp_path_factory.mktemp("undisturbed"))
    document = run_job(service, small_spec(tiny("tied"), text_file, max_trials=MAX_TRIALS))[1]
    service.store.close()
    return front_digest(document)


@pytest.mark.parametrize(("workers_before", "workers_after"), [pytest.param(1, 2, marks=pytest.mark.slow), (2, 1)])
def test_resumed_with_another_number_of_workers(
    service: PlainService,
    tiny: Tiny,
    text_file: Path,
    tmp_path: Path,
    expected: str,
    workers_before: int,
    workers_after: int,
) -> None:
    """No finished trial is measured again, and the front's digest is the undisturbed one."""
    spec = small_spec(tiny("tied"), text_file, workers=workers_before, max_trials=MAX_TRIALS)
    job_id = service.submit(spec).job_id
    kill_halfway(service, job_id, start(service, tmp_path / "first", "run", job_id))
    assert service.store.get_job(job_id).state is JobState.RUNNING
    before = {t.plan.digest: t for t in service.store.list_trials(job_id) if t.state is TrialState.COMPLETE}
    second = start(service, tmp_path / "second", "resume", job_id, "--workers", str(workers_after))
    said = second.communicate(timeout=LIMIT_SECONDS)[1]
    assert second.returncode == 0, said[-3000:]
    asked = [line.split() for line in (tmp_path / "second").read_text().splitlines()]
    again = {plan for plan, split, first in asked if (split, first) == ("search", "0")}
    assert again  # the rest was measured by it
    assert not again & before.keys()
    after = {t.plan.digest: t for t in service.store.list_trials(job_id)}
    assert {digest: after[digest].measurement for digest in before} == {d: t.measurement for d, t in before.items()}
    assert {trial.state for trial in after.values()} == {TrialState.COMPLETE}
    assert front_digest(service.front(job_id)) == expected
