"""MLflow as a mirror of the store: it may be down, slow or absent, and no search ever notices.

The only importer of MLflow, and only when first needed (3 s). A job is one parent run in the experiment of its model;
its front points, uniform plans and the dense model are child runs; `sync` can rebuild all of it at any time.

Both an `http://` server and a `sqlite:///` file work. Runs written straight to the file keep their artifacts in
`artifacts` beside it; the server of storage/mlflow_server.py shows both (verified with MLflow 3.17.2). A foreign server
that proxies artifacts (`mlflow-artifacts:/`) must be addressed by http: only a server can resolve such addresses.
"""

import fcntl
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from space.addresses import without_password
from space.digest import digest
from space.document import FrontDocument
from space.errors import StoreError
from storage import projection
from storage.background import Delivery
from storage.mlflow_view import TAG_PREFIX, encode_view, is_current, pareto_link, view_key, views_to_remove
from storage.private import make_private, make_private_file
from storage.records import Job, JobState, Trial
from storage.sqlite_urls import sqlite_path
from storage.tracker import End, Front, NullTracker, Step, Tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["MlflowTracker", "NullTracker", "Tracker", "pareto_link", "sync"]

StepMetrics = tuple[int, Mapping[str, float]]
_log = logging.getLogger("tightfit.tracking")
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_RUN_STATUS = {JobState.DONE: "FINISHED", JobState.FAILED: "FAILED", JobState.CANCELLED: "KILLED"}


class MlflowTracker:
    """Writes to MLflow from one background thread.

    Args:
        tracking_uri: `http://...` or `sqlite:///...`.
        patience_seconds: how long to retry after MLflow failed (a server takes up to 20 s to start); then the failure
            is noted once as a warning and what waits is dropped. Later items are tried once each.

    """

    def __init__(self, tracking_uri: str, patience_seconds: float = 60.0) -> None:
        """Start the thread; MLflow itself is only touched there."""
        self._uri = tracking_uri
        self._runs: dict[str, _JobRuns] = {}
        self._delivery: Delivery[Step | Front | End] = Delivery(self._write, _joins, self._note, patience_seconds)

    def progress(self, job: Job, step: int, metrics: Mapping[str, float]) -> None:
        """Queue the metrics of one step."""
        self._delivery.put(Step(job, step, dict(metrics), time.time_ns() // 10**6))

    def publish(self, job: Job, trials: Sequence[Trial], document: FrontDocument, report_html: str) -> None:
        """Queue a job's front."""
        self._delivery.put(Front(job, tuple(trials), document, report_html))

    def end(self, job: Job) -> None:
        """Queue the end of a job."""
        self._delivery.put(End(job))

    def close(self, timeout_seconds: float) -> bool:
        """Deliver what waits, for at most this long; return whether everything ever given was delivered."""
        return self._delivery.close(timeout_seconds)

    def _write(self, batch: Sequence[Step | Front | End]) -> None:
        first = batch[0]
        runs = self._runs.get(first.job.job_id) or _JobRuns(_client(self._uri), self._uri, first.job)
        self._runs[first.job.job_id] = runs
        if isinstance(first, Front):
            runs.show_front(first)
        elif isinstance(first, End):
            runs.show_end(first.job)
        else:
            runs.add_steps([step for step in batch if isinstance(step, Step)])

    def _note(self, reason: str) -> None:
        text = "MLflow at %s: %s. The job goes on without it; its front can be shown later."
        _log.warning(text, without_password(self._uri), projection.short(reason))


def sync(
    tracking_uri: str,
    job: Job,
    trials: Sequence[Trial],
    document: FrontDocument | None,
    report_html: str,
    progress: Sequence[StepMetrics] = (),
    *,
    link_base: str | None = None,
) -> str:
    """Show a job as the store has it, whatever was shown before, and return the link of its Pareto view.

    Of a job without a document its steps and its end are shown.

    Raises:
        StoreError: MLflow cannot be reached or refuses.

    """
    try:
        runs = _JobRuns(_client(tracking_uri), tracking_uri, job)
        started_ms = _milliseconds(job)
        runs.add_steps([Step(job, step, metrics, started_ms + 1000 * step) for step, metrics in progress])
        if document is None:
            runs.show_end(job)
        else:
            runs.show_front(Front(job, trials, document, report_html))
    except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests' and the system's errors
        place, reason = without_password(tracking_uri), projection.short(f"{type(error).__name__}: {error}")
        mend = "Start it (`tightfit ui`) or name another one; nothing is lost, the job is in the store."
        raise StoreError(f"MLflow at {place} cannot be used: {reason}. {mend}") from error
    return pareto_link(link_base or tracking_uri, runs.experiment_id, job.job_id)


class _JobRuns:
    """The runs of one job in MLflow: found by their tags, made where missing."""

    def __init__(self, client: "MlflowClient", tracking_uri: str, job: Job) -> None:
        self._client, self._job = client, job
        self.experiment_id = _experiment(client, tracking_uri, projection.experiment_name(job.spec.model))
        self._parent_id = self._open_parent()
        self._show_view()

    def add_steps(self, steps: Sequence[Step]) -> None:
        """Add the metrics of steps that are not there yet."""
        from mlflow.entities import Metric  # noqa: PLC0415

        names = {name for step in steps for name in step.metrics}
        known = {(name, m.step) for name in names for m in self._client.get_metric_history(self._parent_id, name)}
        metrics = [
            Metric(name, float(value), step.timestamp_ms, step.number)
            for step in steps
            for name, value in step.metrics.items()
            if (name, step.number) not in known
        ]
        if metrics:
            self._client.log_batch(self._parent_id, metrics=metrics)

    def show_front(self, front: Front) -> None:
        """Show the front: points, artifacts, the answer in words."""
        document = front.document
        self._show_points(projection.points(document))
        self._write_artifacts(front)
        table = json.dumps([{"path": "trials.json", "type": "table"}])
        note = projection.note(document, self.experiment_id)
        tags = {"mlflow.note.content": note, "mlflow.loggedArtifacts": table, "tightfit.state": document.state}
        _log_values(self._client, self._parent_id, projection.summary_metrics(document), tags)
        self._set_status(front.job)

    def show_end(self, job: Job) -> None:
        """Show how a job ended."""
        note = {"mlflow.note.content": projection.end_note(job)}
        _log_values(self._client, self._parent_id, {}, note | {"tightfit.state": str(job.state)})
        self._set_status(job)

    def _open_parent(self) -> str:
        tags = {"tightfit.job": self._job.job_id, "tightfit.kind": "job", "tightfit.target": self._job.spec.target}
        found = sorted(self._find("job"), key=lambda run: (run.info.start_time, run.info.run_id))
        for duplicate in found[1:]:
            self._client.delete_run(duplicate.info.run_id)
        run = found[0] if found else None
        if run is None:
            started = _milliseconds(self._job)
            run = self._client.create_run(self.experiment_id, started, tags, run_name=self._job.job_id)
        missing = {k: v for k, v in projection.params(self._job).items() if k not in run.data.params}
        _log_values(self._client, run.info.run_id, {}, tags, missing)
        if self._job.state is JobState.RUNNING and run.info.status != "RUNNING":  # resumed
            self._client.update_run(run.info.run_id, "RUNNING")
        return str(run.info.run_id)

    def _show_view(self) -> None:
        tags = self._client.get_experiment(self.experiment_id).tags
        tag = TAG_PREFIX + view_key(self._job.job_id)
        if is_current(tags.get(tag), self._job.job_id):
            return
        for old in views_to_remove(tags, self._job.job_id):
            self._client.delete_experiment_tag(self.experiment_id, old)
        value = encode_view(self._job.job_id, time.time_ns() // 10**6)
        self._client.set_experiment_tag(self.experiment_id, tag, value)

    def _show_points(self, points: Sequence[projection.Point]) -> None:
        wanted = {point.digest: point for point in points}
        for run in self._find("front", "uniform", "dense"):
            if wanted.pop(run.data.tags.get("tightfit.digest", ""), None) is None:
                self._client.delete_run(run.info.run_id)
        for name, point in wanted.items():
            tags = {**point.tags, "mlflow.parentRunId": self._parent_id}
            run = self._client.create_run(self.experiment_id, _milliseconds(self._job), tags, run_name=point.name)
            # the digest comes last: a child that was cut off has none and is made again
            _log_values(self._client, run.info.run_id, point.metrics, {})
            _log_values(self._client, run.info.run_id, {}, {"tightfit.digest": name})
            self._client.update_run(run.info.run_id, "FINISHED")

    def _write_artifacts(self, front: Front) -> None:
        write = self._client.log_text
        plans = projection.plans(front.document, front.trials)
        self._remove_plans_but(plans)
        for point, plan in plans.items():
            write(self._parent_id, json.dumps(plan, indent=1), f"plans/{point}.json")
        write(self._parent_id, json.dumps(projection.trials_table(front.trials)), "trials.json")
        write(self._parent_id, json.dumps(front.document.to_json(), indent=1), "front.json")
        write(self._parent_id, front.report_html, "report.html")

    def _remove_plans_but(self, kept: Mapping[str, object]) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository  # noqa: PLC0415

        paths = [file.path for file in self._client.list_artifacts(self._parent_id, "plans")]
        uri = self._client.get_run(self._parent_id).info.artifact_uri
        for path in paths:
            if Path(path).stem not in kept:
                repository = get_artifact_repository(uri, tracking_uri=self._client.tracking_uri)
                repository.delete_artifacts(path)  # type: ignore[no-untyped-call]

    def _set_status(self, job: Job) -> None:
        if job.state in _RUN_STATUS:
            end_ms = int(job.finished_at.timestamp() * 1000) if job.finished_at else None
            self._client.set_terminated(self._parent_id, _RUN_STATUS[job.state], end_ms)
        else:
            self._client.update_run(self._parent_id, "RUNNING")

    def _find(self, *kinds: str) -> "list[Run]":
        query = f"tags.`tightfit.job` = '{self._job.job_id}'"
        found = self._client.search_runs([self.experiment_id], query, max_results=50_000)
        return [run for run in found if run.data.tags.get("tightfit.kind") in kinds]


def _client(tracking_uri: str) -> "MlflowClient":
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient  # noqa: PLC0415

    database = sqlite_path(tracking_uri)
    if database is None:
        return MlflowClient(tracking_uri)
    make_private(database.parent)
    make_private_file(database)
    with Path(f"{database}.lock").open("w") as lock:  # one creator at a time, as in storage/mlflow_server.py
        fcntl.flock(lock, fcntl.LOCK_EX)
        return MlflowClient(tracking_uri)


def _experiment(client: "MlflowClient", tracking_uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415

    found = client.get_experiment_by_name(name)
    if found is None:
        folder = None
        if (database := sqlite_path(tracking_uri)) is not None:
            folder = (database.resolve().parent / "artifacts" / digest(name)[:16]).as_uri()
        try:
            tags = {"mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(name, artifact_location=folder, tags=tags))
        except MlflowException:  # somebody else made it just now
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _log_values(
    client: "MlflowClient",
    run_id: str,
    metrics: Mapping[str, float],
    tags: Mapping[str, str],
    params: Mapping[str, str] | None = None,
) -> None:
    from mlflow.entities import Metric, Param, RunTag  # noqa: PLC0415

    client.log_batch(
        run_id,
        metrics=[Metric(name, value, time.time_ns() // 10**6, 0) for name, value in metrics.items()],
        params=[Param(name, value) for name, value in (params or {}).items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )


def _joins(first: Step | Front | End, second: Step | Front | End) -> bool:
    return isinstance(first, Step) and isinstance(second, Step) and first.job.job_id == second.job.job_id


def _milliseconds(job: Job) -> int:
    return int((job.started_at or job.created_at).timestamp() * 1000)
