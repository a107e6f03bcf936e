"""Where MLflow shows a job, kept with the job since only MLflow knows the numbers of its pages; what it registers."""

from collections.abc import Sequence
from contextlib import suppress

from space.errors import TightfitError
from space.parsing.addresses import without_password
from space.question import Metric
from storage.job_facts import JobFacts
from storage.point_tasks import PointTask, TaskKind, TaskState
from storage.records import Job
from storage.store import Store
from storage.tracking.contract import Checkpoint
from storage.tracking.mlflow_server import find_server
from storage.tracking.mlflow_view import LOCAL_SERVER
from tightfit.config import Settings


def keep_link(store: Store, job_id: str, link: str | None) -> None:
    """Remember where a job is shown, if anywhere; with a store that is away it is forgotten."""
    if link is not None:
        with suppress(TightfitError):
            store.update_job(job_id, facts=JobFacts(mlflow_page=link.partition("#")[2]))


def checkpoints_of(job: Job, tasks: Sequence[PointTask]) -> list[Checkpoint]:
    """Return the verified exports among tasks of a job, the oldest first."""
    best = job.document.recommended if job.document is not None else None
    done = [task for task in tasks if task.kind is TaskKind.EXPORT and task.state is TaskState.DONE and task.result]
    return [
        Checkpoint(
            task_id=task.task_id,
            job=job,
            point=task.point,
            target=str(result["format"]),
            path=task.out,
            digests=result["sha256"],
            commands=result.get("commands", ()),
            size_bytes=result["size_bytes"],
            kl_divergence=result["kl_divergence"],
            metric=Metric.from_json(result.get("metric")),
            is_recommended=best is not None and best.trial == task.trial,
            finished_ms=int((task.finished_at or task.created_at).timestamp() * 1000),
        )
        for task in sorted(done, key=lambda task: task.created_at)
        if (result := task.result) is not None
    ]


def kept_link(settings: Settings, job: Job) -> str | None:
    """Return the address of a job's Pareto view on the server that there is now; None where it was never shown."""
    page = job.facts.mlflow_page
    if page is None:
        return None
    address = settings.mlflow_uri or ""
    if not address.startswith("http"):
        server = find_server(settings.home)
        address = LOCAL_SERVER if server is None else server.url
    return f"{without_password(address).rstrip('/')}/#{page}"
