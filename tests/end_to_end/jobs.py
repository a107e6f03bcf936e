"""Small whole jobs for the tests: a service with a home of its own, and requests that take seconds."""

from pathlib import Path
from typing import Any

from space.results.document import FrontDocument
from space.spec import JobSpec, make_spec
from storage.records import Job, JobState
from storage.tracking.contract import NullTracker
from tightfit.config import Settings
from tightfit.service import Service


class Quiet:
    """Hears a job and keeps its steps."""

    def __init__(self) -> None:
        self.phases: list[str] = []

    def phase(self, job: Job, text: str) -> None:
        """Keep a step."""
        self.phases.append(text)

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Pass."""


class PlainService(Service):
    """A service without MLflow, which has tests of its own."""

    def _tracker(self) -> NullTracker:
        return NullTracker()


def open_service(home: Path) -> PlainService:
    """Return a service whose records, cache and logs are all in `home`."""
    return PlainService(Settings(home, f"sqlite:///{home / 'tightfit.db'}", None))


def small_spec(model: Path, text: Path | None, **values: Any) -> JobSpec:
    """Return a request with a narrow menu and little text."""
    small = {
        "model": str(model),
        "budget": "4bpw",
        "calibration": None if text is None else str(text),
        "bits": (2, 4, 8),
        "group_sizes": (32, None),
        "sparsities": (0.0,),
        "ranks": (0,),
        "max_trials": 30,
        "sequence_length": 32,
        "num_samples": 8,
        "num_search_samples": 6,
        "num_held_out_samples": 6,
    }
    return make_spec(**{**small, **values})


def run_job(service: Service, spec: JobSpec, *, inline: bool = True) -> tuple[str, FrontDocument]:
    """Submit and run a job to its good end."""
    job = service.submit(spec)
    assert service.run(job.job_id, Quiet(), inline=inline).state is JobState.DONE
    return job.job_id, service.front(job.job_id)
