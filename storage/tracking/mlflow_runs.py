"""MLflow as a mirror of the store: it may be down, slow or absent, and no search ever notices.

The only importer of MLflow, and only when first needed (3 s). A job is one parent run in the experiment of its model;
its front points, uniform plans and the dense model are child runs, each with its plan, its description and its command;
`sync` can rebuild all of it at any time. A child costs three requests; those that are still true are left alone.

Both an `http://` server and a `sqlite:///` file work. Runs written straight to the file keep their artifacts in
`artifacts` beside it; the server of `mlflow_server` shows both (verified with MLflow 3.17.2). A foreign server that
proxies artifacts (`mlflow-artifacts:/`) must be addressed by http: only a server can resolve such addresses.
"""

import fcntl
import json
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from space.digest import digest
from space.errors import StoreError
from space.model_name import model_name
from space.parsing.addresses import without_password
from space.results.document import FrontDocument
from storage.private import make_private, make_private_file
from storage.records import Job, JobState, Trial
from storage.sql.sqlite_urls import sqlite_path
from storage.tracking import mlflow_inputs, mlflow_models, run_figures, run_notes
from storage.tracking.contract import Checkpoint, Front, Step
from storage.tracking.mlflow_view import TAG_PREFIX, encode_view, is_current, pareto_link, view_key, views_to_remove

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

StepMetrics = tuple[int, Mapping[str, float]]
_NOTE = "mlflow.note.content"
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}
_RUN_STATUS = {JobState.DONE: "FINISHED", JobState.FAILED: "FAILED", JobState.CANCELLED: "KILLED"}


def sync(
    tracking_uri: str,
    job: Job,
    trials: Sequence[Trial],
    document: FrontDocument | None,
    report_html: str,
    progress: Sequence[StepMetrics] = (),
    *,
    exports: Sequence[Checkpoint] = (),
    link_base: str | None = None,
    home_option: str = "",
) -> str:
    """Show a job as the store has it, whatever was shown before, and return the link of its Pareto view.

    Of a job without a document its steps and its end are shown. `home_option` is what a command needs to find its
    records (` --home DIR`), or nothing.

    Raises:
        StoreError: MLflow cannot be reached or refuses.

    """
    try:
        runs = JobRuns(tracking_uri, job, home_option)
        started_ms = _milliseconds(job)
        runs.add_steps([Step(job, step, metrics, started_ms + 1000 * step) for step, metrics in progress])
        if document is None:
            runs.show_end(job)
        else:
            runs.show_front(Front(job, trials, document, report_html))
        for export in exports:
            runs.register(export)
    except Exception as error:  # MLflow raises its own, SQLAlchemy's, requests' and the system's errors
        place, reason = without_password(tracking_uri), run_figures.short(f"{type(error).__name__}: {error}")
        mend = "Start it (`tightfit ui`) or name another one; nothing is lost, the job is in the store."
        raise StoreError(f"MLflow at {place} cannot be used: {reason}. {mend}") from error
    return runs.link(link_base or tracking_uri)


class JobRuns:
    """The runs of one job in MLflow: found by their tags, made where missing."""

    def __init__(self, tracking_uri: str, job: Job, home_option: str) -> None:
        """Find the job's own run, or make it."""
        self._client, self._job = _client(tracking_uri), job
        self.experiment_id = _experiment(self._client, tracking_uri, run_figures.experiment_name(job.spec.model))
        parent = self._open_parent(home_option)
        self._artifact_uri = parent.info.artifact_uri
        self._shelf = run_notes.Shelf(self.experiment_id, parent.info.run_id, home_option)
        self._show_view()

    def link(self, address: str) -> str:
        """Return the link of the job's Pareto view where MLflow is served at an address."""
        return pareto_link(address, self.experiment_id, self._job.job_id)

    def add_steps(self, steps: Sequence[Step]) -> None:
        """Add the metrics of steps that are not there yet."""
        from mlflow.entities import Metric

        names = {name for step in steps for name in step.metrics}
        known = {(name, m.step) for name in names for m in self._client.get_metric_history(self._shelf.run_id, name)}
        metrics = [
            Metric(name, float(value), step.timestamp_ms, step.number)
            for step in steps
            for name, value in step.metrics.items()
            if (name, step.number) not in known
        ]
        if metrics:
            self._client.log_batch(self._shelf.run_id, metrics=metrics)

    def show_front(self, front: Front) -> None:
        """Show the front: points, artifacts, the answer in words."""
        document = front.document
        mlflow_inputs.log_texts(self._client, self._shelf.run_id, run_figures.texts(front.job))
        runs = self._show_points(run_figures.points(document, front.trials, self._shelf))
        self._write_artifacts(front)
        best = document.recommended
        note = run_notes.job_note(document, self._shelf, runs.get(best.point) if best else None)
        table = json.dumps([{"path": "trials.json", "type": "table"}])
        tags = {_NOTE: note, "mlflow.loggedArtifacts": table, "tightfit.state": document.state}
        self._log(self._shelf.run_id, run_figures.summary_metrics(document), tags)
        self._set_status(front.job)
        self._describe_experiment()

    def register(self, export: Checkpoint) -> None:
        """Show an export as a version of its model, made by its point's run."""
        kept = [run for run in self._find("!=") if run.data.tags.get("tightfit.point") == export.point]
        run_id = kept[0].info.run_id if kept else self._shelf.run_id
        mlflow_models.register(self._client, self.experiment_id, run_id, export)

    def show_end(self, job: Job) -> None:
        """Show how a job ended."""
        note = {_NOTE: run_notes.end_note(job)}
        self._log(self._shelf.run_id, {}, note | {"tightfit.state": str(job.state)})
        self._set_status(job)

    def _open_parent(self, home_option: str) -> "Run":
        tags = {"tightfit.job": self._job.job_id, "tightfit.kind": "job", "tightfit.target": self._job.spec.target}
        found = sorted(self._find("="), key=lambda run: (run.info.start_time, run.info.run_id))
        for duplicate in found[1:]:
            self._client.delete_run(duplicate.info.run_id)
        run = found[0] if found else None
        if run is None:
            begun = tags | {_NOTE: run_notes.begun_note(self._job, home_option)}
            started = _milliseconds(self._job)
            run = self._client.create_run(self.experiment_id, started, begun, run_name=self._job.job_id)
        missing = {k: v for k, v in run_figures.params(self._job).items() if k not in run.data.params}
        self._log(run.info.run_id, {}, tags, missing)
        if self._job.state is JobState.RUNNING and run.info.status != "RUNNING":  # resumed
            self._client.update_run(run.info.run_id, "RUNNING")
        return run

    def _show_view(self) -> None:
        tags = self._client.get_experiment(self.experiment_id).tags
        tag = TAG_PREFIX + view_key(self._job.job_id)
        if is_current(tags.get(tag), self._job.job_id):
            return
        for old in views_to_remove(tags, self._job.job_id):
            self._client.delete_experiment_tag(self.experiment_id, old)
        value = encode_view(self._job.job_id, time.time_ns() // 10**6)
        self._client.set_experiment_tag(self.experiment_id, tag, value)

    def _show_points(self, points: Sequence[run_figures.Point]) -> dict[str, str]:
        """Make the runs that are missing and remove those that are no longer true; return point -> run."""
        wanted, runs = {point.digest: point for point in points}, {}
        for run in self._find("!="):
            if (point := wanted.pop(run.data.tags.get("tightfit.digest", ""), None)) is None:
                self._client.delete_run(run.info.run_id)
            else:
                runs[point.tags["tightfit.point"]] = str(run.info.run_id)
        for name, point in wanted.items():
            runs[point.tags["tightfit.point"]] = self._show_point(point, name)
        return runs

    def _show_point(self, point: run_figures.Point, digest_of_all: str) -> str:
        started_ms = _milliseconds(self._job) - point.rank  # where MLflow lists children, the newest come first
        run = self._client.create_run(self.experiment_id, started_ms, dict(point.tags), run_name=point.name)
        run_id = str(run.info.run_id)
        self._write_files(run.info.artifact_uri, point.files)
        self._client.update_run(run_id, "FINISHED")
        # the digest comes last: a child that was cut off has none and is made again
        tags = {_NOTE: point.note.replace(run_notes.OWN_RUN, run_id), "tightfit.digest": digest_of_all}
        self._log(run_id, point.metrics, tags, point.params)
        return run_id

    def _write_artifacts(self, front: Front) -> None:
        texts = {f"plans/{p}.json": json.dumps(v, indent=1) for p, v in run_figures.plans(front).items()}
        for file in self._client.list_artifacts(self._shelf.run_id, "plans"):
            if file.path not in texts:
                self._files_of(self._artifact_uri).delete_artifacts(file.path)  # type: ignore[no-untyped-call]
        texts["trials.json"] = json.dumps(run_figures.trials_table(front.trials))
        texts["front.json"] = json.dumps(front.document.to_json(), indent=1)
        self._write_files(self._artifact_uri, texts | {run_notes.REPORT_FILE: front.report_html})

    def _write_files(self, artifact_uri: str, texts: Mapping[str, str]) -> None:
        if not texts:
            return
        with TemporaryDirectory() as folder:
            for name, text in texts.items():
                path = Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            self._files_of(artifact_uri).log_artifacts(folder)  # type: ignore[no-untyped-call]

    def _files_of(self, artifact_uri: str) -> "ArtifactRepository":
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return get_artifact_repository(artifact_uri, tracking_uri=self._client.tracking_uri)

    def _describe_experiment(self) -> None:
        """List the jobs of the experiment in its description, unless somebody wrote one."""
        if not run_notes.may_replace(self._client.get_experiment(self.experiment_id).tags.get(_NOTE)):
            return
        query, newest_first = "tags.`tightfit.kind` = 'job'", ["attributes.start_time DESC"]
        found = self._client.search_runs(
            [self.experiment_id], query, max_results=run_notes.MAX_JOBS, order_by=newest_first
        )
        jobs = [run_figures.shown_job(run.info.run_name, run.data.params, run.data.metrics) for run in found]
        note = run_notes.experiment_note(model_name(self._job.spec.model), self.experiment_id, jobs)
        self._client.set_experiment_tag(self.experiment_id, _NOTE, note)

    def _set_status(self, job: Job) -> None:
        if job.state in _RUN_STATUS:
            end_ms = int(job.finished_at.timestamp() * 1000) if job.finished_at else None
            self._client.set_terminated(self._shelf.run_id, _RUN_STATUS[job.state], end_ms)
        else:
            self._client.update_run(self._shelf.run_id, "RUNNING")

    def _log(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        params: Mapping[str, str] | None = None,
    ) -> None:
        """Record values at once; MLflow writes tags after all else."""
        from mlflow.entities import Metric, Param, RunTag

        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, time.time_ns() // 10**6, 0) for name, value in metrics.items()],
            params=[Param(name, value) for name, value in (params or {}).items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )

    def _find(self, relation: str) -> "list[Run]":
        """Return the runs of the job whose kind is ("=") or is not ("!=") the job itself."""
        query = f"tags.`tightfit.job` = '{self._job.job_id}' AND tags.`tightfit.kind` {relation} 'job'"
        return list(self._client.search_runs([self.experiment_id], query, max_results=50_000))


def _client(tracking_uri: str) -> "MlflowClient":
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    database = sqlite_path(tracking_uri)
    if database is None:
        return MlflowClient(tracking_uri)
    make_private(database.parent)
    make_private_file(database)
    with Path(f"{database}.lock").open("w") as lock:  # one creator at a time, as in storage/tracking/mlflow_server.py
        fcntl.flock(lock, fcntl.LOCK_EX)
        return MlflowClient(tracking_uri)


def _experiment(client: "MlflowClient", tracking_uri: str, name: str) -> str:
    from mlflow.exceptions import MlflowException

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


def _milliseconds(job: Job) -> int:
    return int((job.started_at or job.created_at).timestamp() * 1000)
