"""A controller that is told to go puts its job back and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.records import JobState
from tests.chaos.own_ray import family
from tests.end_to_end.jobs import PlainService, small_spec
from tests.workers.tiny_models import TinyKind

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 300.0


@pytest.mark.parametrize("seconds", [0.0, 6.0])
def test_sigterm_queues_the_job_and_says_so(
    service: PlainService, tiny: Callable[[TinyKind], Path], text_file: Path, seconds: float
) -> None:
    """In the middle of Ray's start, or amid a task: one sentence, exit code 143, and no process is left."""
    job_id = service.submit(small_spec(tiny("tied"), text_file, workers=1)).job_id
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"TIGHTFIT_HOME": str(service.settings.home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "tightfit", "run", job_id]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + LIMIT_SECONDS
    while not service.store.get_job(job_id).phase.startswith(("starting workers", "calibrating")):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    time.sleep(0.5 + seconds)
    left = family(process.pid)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=LIMIT_SECONDS)[1].splitlines()
    assert process.returncode == 143
    assert said[-1].startswith("Stopped by SIGTERM, and queued; `tightfit resume ")
    assert not any("Traceback" in line or "Fatal" in line for line in said)
    assert service.store.get_job(job_id).state is JobState.QUEUED
    assert left
    deadline = time.monotonic() + 60
    while (alive := {pid: line for pid, line in left.items() if _runs(pid)}) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive == {}


def _runs(pid: int) -> bool:
    """Tell whether a process is there, and not only waits for somebody to ask how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
