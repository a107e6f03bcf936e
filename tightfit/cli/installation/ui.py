"""MLflow for this home: the page that shows a job's front, and the server behind it."""

import sys
import time

from storage.tracking.mlflow_server import start_server, stop_server
from tightfit.cli.overviews import newest_front
from tightfit.config import ANOTHER_HOME
from tightfit.places.at_home import AtHome
from tightfit.service import Service
from workers.whole_files import writing


def serve_ui(service: Service, job_id: str | None, port: int | None) -> None:
    """Serve MLflow until Ctrl-C, printing the address of the job's Pareto view."""
    job_id = job_id or newest_front(AtHome(service).jobs()).overview.job_id
    service.front(job_id)  # a job without a front has nothing to show
    if service.settings.mlflow_uri and service.settings.mlflow_uri.startswith("http"):
        print(service.sync_mlflow(job_id))
        return
    home = service.settings.home
    with writing(home / "mlflow", ANOTHER_HOME):
        server = start_server(home, port)
    try:
        print(f"Pareto view of {job_id}: {service.sync_mlflow(job_id, server.url)}", flush=True)
        print("Ctrl-C stops the server.", file=sys.stderr)
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        stop_server(home)
