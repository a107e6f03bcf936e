"""Whether the service is there, whether it can work, and figures of it for Prometheus."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse

from storage.job_summary import Wanted
from storage.records import JobState
from tightfit import __version__
from tightfit.http.callers import Reader, ServiceOfApp
from tightfit.http.figures import Figures
from tightfit.http.problems import problem_responses
from tightfit.http.shapes import Health

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> Health:
    """Answer as long as the process is there; asks nothing of the database."""
    return Health(version=__version__)


@router.get("/readyz", responses=problem_responses(500, 503))
def readyz(service: ServiceOfApp) -> Health:
    """Answer where the database answers too."""
    service.store.list_jobs([])
    return Health(version=__version__)


@router.get("/metrics", response_class=PlainTextResponse, responses=problem_responses(401, 403))
def metrics(request: Request, service: ServiceOfApp, _: Reader) -> Response:
    """Return requests, answer times and jobs by state, in Prometheus' text format."""
    figures: Figures = request.app.state.figures
    counts = {s: service.store.page_overviews(Wanted(states=frozenset([s])), None, 0)[1] for s in JobState}
    text, media_type = figures.text(counts)
    return Response(text, media_type=media_type)
