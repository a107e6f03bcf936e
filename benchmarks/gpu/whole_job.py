"""A step of the check: the demo's job with one Ray worker on the device, exported and verified in a fresh process."""

import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.figures import Figures, figures_of_arguments
from space.spec import JobSpec, make_spec
from storage.records import Job, TrialState
from storage.tracking.contract import NullTracker
from tightfit.cli.installation.demo import demo_spec
from tightfit.config import Settings
from tightfit.service import Service

_SMALL: dict[str, Any] = {
    "bits": (4, 16),
    "group_sizes": (64,),
    "sparsities": (0.0,),
    "ranks": (0,),
    "kinds": ("integer",),
}
_SMALL |= {"budget": "9bpw", "max_trials": 8, "sequence_length": 32, "num_samples": 8}
_SMALL |= {"num_search_samples": 4, "num_held_out_samples": 4}


class _Phases:
    """Hears a job, and makes each of its steps a figure."""

    def __init__(self, figures: Figures) -> None:
        self._figures, self._name, self._since = figures, "", 0.0

    def phase(self, job: Job, text: str) -> None:  # noqa: ARG002 (the contract's argument)
        """End one step and begin another; what is told of the same one again, such as how far it is, is no new one."""
        print(text, flush=True)
        name, now = re.split(r"[;,(:\d]", text)[0].strip(), time.monotonic()
        if name == self._name:
            return
        if self._name:
            self._figures.add(f"step: {self._name}", round(now - self._since, 1), "s")
        self._name, self._since = name, now

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:  # noqa: ARG002
        """Say how far it is."""
        print(f"{trials_done} trials, {metrics}", flush=True)


class _Untracked(Service):
    """A service without MLflow, wherever it runs."""

    def _tracker(self) -> NullTracker:
        return NullTracker()


def job_spec(*, is_small: bool) -> JobSpec:
    """Return the demo's request for one worker."""
    return make_spec(**(demo_spec().model_dump() | {"workers": 1} | (_SMALL if is_small else {})))


def _search(figures: Figures, service: Service) -> str:
    """Run the job; return its id."""
    with figures.part("search"):
        job = service.submit(job_spec(is_small=figures.is_small))
        heard = _Phases(figures)
        ended = service.run(job.job_id, heard)
        heard.phase(ended, "")
        figures.add("computed on", str(ended.facts.device))
        if ended.facts.device != figures.device:
            figures.fail(f"the job computed on {ended.facts.device}")
        trials = [t for t in service.store.list_trials(job.job_id) if t.state is TrialState.COMPLETE]
        figures.add("trials", len(trials))
        return job.job_id
    return ""


def _export(figures: Figures, service: Service, job_id: str, folder: Path) -> None:
    with figures.part("export and verify"):
        document = service.front(job_id)
        figures.add("points of the front", len(document.front))
        found = service.export(job_id, folder, refit=False)
        figures.add("bytes", found.size_bytes)
        figures.add("budget", found.budget_bytes)
        figures.add("held-out KL", found.recorded_kl_divergence)
        figures.add("KL of the export", found.kl_divergence)
        figures.add("largest difference of its logits", found.logit_difference)
        if not found.verified:
            figures.fail("the export is not verified")


def main() -> int:
    """Search, export and verify."""
    figures = figures_of_arguments()
    home = figures.work / "home"
    service = _Untracked(Settings(home, f"sqlite:///{home / 'tightfit.db'}", None))
    if job_id := _search(figures, service):
        _export(figures, service, job_id, figures.work / "exported")
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
