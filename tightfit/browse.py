"""MLflow for this home: the page that shows a job's front, and the server behind it."""

import sys
import time
from collections.abc import Sequence

from space.errors import NotFoundError
from storage.mlflow_server import start_server, stop_server
from storage.records import Job
from tightfit.config import ANOTHER_HOME
from tightfit.service import Service
from workers.atomic import writing


def serve_ui(service: Service, job_id: str | None, port: int | None) -> None:
    """Serve MLflow until Ctrl-C, printing the address of the job's Pareto view."""
    job = service.store.get_job(job_id) if job_id else newest_front(service.store.list_jobs())
    service.front(job.job_id)  # a job without a front has nothing to show
    if service.settings.mlflow_uri and service.settings.mlflow_uri.startswith("http"):
        print(service.sync_mlflow(job.job_id))
        return
    home = service.settings.home
    with writing(home / "mlflow", ANOTHER_HOME):
        server = start_server(home, port)
    try:
        print(f"Pareto view of {job.job_id}: {service.sync_mlflow(job.job_id, server.url)}", flush=True)
        print("Ctrl-C stops the server.", file=sys.stderr)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        stop_server(home)


def newest_front(jobs: Sequence[Job]) -> Job:
    """Return the newest of a store's jobs that has a front; the newest one where none has.

    Raises:
        NotFoundError: there are no jobs.

    """
    if not jobs:
        raise NotFoundError("There are no jobs yet; `tightfit submit MODEL --budget B` or `tightfit demo` makes one.")
    return next((job for job in jobs if job.document is not None), jobs[0])
