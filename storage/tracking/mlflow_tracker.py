"""The tracker that writes to MLflow from a thread of its own, so that a search never waits for it."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from space.parsing.addresses import without_password
from space.results.document import FrontDocument
from storage.records import Job, Trial
from storage.tracking import run_figures
from storage.tracking.contract import Checkpoint, End, Front, Step
from storage.tracking.delivery_thread import Delivery
from storage.tracking.mlflow_inputs import SystemMetrics
from storage.tracking.mlflow_runs import JobRuns

_Item = Step | Front | End | Checkpoint
_log = logging.getLogger("tightfit.tracking")


class MlflowTracker:
    """Writes to MLflow from one background thread.

    Args:
        tracking_uri: `http://...` or `sqlite:///...`.
        patience_seconds: how long to retry after MLflow failed (a server takes up to 20 s to start); then the failure
            is noted once as a warning and what waits is dropped. Later items are tried once each.
        home_option: what a command needs to find a job's records (` --home DIR`), or nothing.

    """

    def __init__(self, tracking_uri: str, patience_seconds: float = 60.0, home_option: str = "") -> None:
        """Start the thread; MLflow itself is only touched there."""
        self._uri, self._home_option = tracking_uri, home_option
        self._runs: dict[str, JobRuns] = {}
        self._system: SystemMetrics | None = None
        self._delivery: Delivery[_Item] = Delivery(self._write, _joins, self._note, patience_seconds)

    def progress(self, job: Job, step: int, metrics: Mapping[str, float]) -> None:
        """Queue the metrics of one step."""
        self._delivery.put(Step(job, step, dict(metrics), time.time_ns() // 10**6))

    def publish(self, job: Job, trials: Sequence[Trial], document: FrontDocument, report_html: str) -> None:
        """Queue a job's front."""
        self._delivery.put(Front(job, tuple(trials), document, report_html))

    def end(self, job: Job) -> None:
        """Queue the end of a job."""
        self._delivery.put(End(job))

    def register(self, export: Checkpoint) -> None:
        """Queue a verified export."""
        self._delivery.put(export)

    def close(self, timeout_seconds: float) -> bool:
        """Deliver what waits, for at most this long; return whether everything ever given was delivered."""
        return self._delivery.close(timeout_seconds)

    def link(self, job_id: str) -> str | None:
        """Return the link of a job's Pareto view, once something of the job was delivered."""
        runs = self._runs.get(job_id)
        return None if runs is None else runs.link(self._uri)

    def _write(self, batch: Sequence[_Item]) -> None:
        first = batch[0]
        runs = self._runs.get(first.job.job_id) or JobRuns(self._uri, first.job, self._home_option)
        self._runs[first.job.job_id] = runs
        if isinstance(first, Front):
            runs.show_front(first)
        elif isinstance(first, End):
            runs.show_end(first.job)
        elif isinstance(first, Checkpoint):
            runs.register(first)
        else:
            runs.add_steps([step for step in batch if isinstance(step, Step)] + self._machine(first))

    def _machine(self, step: Step) -> list[Step]:
        """Return what this machine is doing, beside a step; nothing where it was told just now."""
        self._system = self._system or SystemMetrics()
        metrics = self._system.sample()
        return [replace(step, metrics=metrics, timestamp_ms=time.time_ns() // 10**6)] if metrics else []

    def _note(self, reason: str) -> None:
        text = "MLflow at %s: %s. The job goes on without it; its front can be shown later."
        _log.warning(text, without_password(self._uri), run_figures.short(reason))


def _joins(first: _Item, second: _Item) -> bool:
    return isinstance(first, Step) and isinstance(second, Step) and first.job.job_id == second.job.job_id
