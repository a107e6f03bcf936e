"""Exports in MLflow's registry: each verified checkpoint is a version of the model that was compressed.

A version names the files and does not hold them: an external model (MLflow 3.17), with their path, their digests and
the lines that load them. Nothing is pickled and no weight is copied. The version of a job's recommended point has the
alias `recommended`, the last one exported where there are several.
"""

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from storage.tracking import export_figures
from storage.tracking.contract import Checkpoint

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel

ALIAS = "recommended"
_EXTERNAL = "mlflow.model.isExternal"


def register(client: "MlflowClient", experiment_id: str, run_id: str, export: Checkpoint) -> str:
    """Make an export a version of its registered model, unless it is one; return the version.

    Args:
        client: of MLflow.
        experiment_id: of the model.
        run_id: of the exported point, or of its job where the point is shown no more.
        export: what was written.

    """
    from mlflow.entities import Metric
    from mlflow.exceptions import MlflowException

    name = export_figures.registered_name(export.job.spec.model)
    try:
        client.create_registered_model(
            name, {"tightfit.model": export.job.spec.model}, export_figures.registry_note(export)
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    known = client.search_model_versions(f"name = '{name}' AND tags.`tightfit.export` = '{export.task_id}'")
    if known:
        return str(known[0].version)
    tags = export_figures.export_tags(export)
    model = client.create_logged_model(
        experiment_id,
        export.task_id,
        run_id,
        tags | {_EXTERNAL: "true"},
        export_figures.export_params(export),
        "compressed",
    )
    _finish(client, model.model_id)
    metrics = [
        Metric(name, value, export.finished_ms, 0, model_id=model.model_id, run_id=run_id)
        for name, value in export_figures.export_metrics(export).items()
    ]
    client.log_batch(run_id, metrics=metrics)
    made = client.create_model_version(
        name,
        _source(client, model),
        run_id,
        tags,
        description=export_figures.version_note(export),
        await_creation_for=0,
        model_id=model.model_id,
    )
    if export.is_recommended:
        client.set_registered_model_alias(name, ALIAS, made.version)
    return str(made.version)


def _source(client: "MlflowClient", model: "LoggedModel") -> str:
    """Return where a version says that it is from: a server looks up the model, a database is told where that lies.

    MLflow's own code for databases would look it up in the process' global place, which need not be the client's.
    """
    is_server = client.tracking_uri.startswith(("http:", "https:"))
    return f"models:/{model.model_id}" if is_server else str(model.artifact_location)


def _finish(client: "MlflowClient", model_id: str) -> None:
    """Say that a model is ready, with the file that the registry asks of every one."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.models.utils import get_external_mlflow_model_spec

    with TemporaryDirectory() as folder:
        get_external_mlflow_model_spec(client.get_logged_model(model_id)).save(f"{folder}/MLmodel")
        client.log_model_artifacts(model_id, folder)
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
