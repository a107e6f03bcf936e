"""Where MLflow shows a job: kept with the job, since only MLflow knows the numbers of its pages."""

from contextlib import suppress

from space.errors import TightfitError
from space.parsing.addresses import without_password
from storage.job_facts import JobFacts
from storage.records import Job
from storage.store import Store
from storage.tracking.mlflow_server import find_server
from storage.tracking.mlflow_view import LOCAL_SERVER
from tightfit.config import Settings


def keep_link(store: Store, job_id: str, link: str | None) -> None:
    """Remember where a job is shown, if anywhere; with a store that is away it is forgotten."""
    if link is not None:
        with suppress(TightfitError):
            store.update_job(job_id, facts=JobFacts(mlflow_page=link.partition("#")[2]))


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
