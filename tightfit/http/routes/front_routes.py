"""What a job found: trials, front, explanations, the report."""

from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse

from space.results.document import FrontDocument
from storage.records import Trial
from tightfit.http.callers import Reader, ServiceOfApp, seen_job
from tightfit.http.problems import problem_responses
from tightfit.http.routes.job_routes import JobId
from tightfit.http.shapes import PointExplanation, TrialPage
from tightfit.http.shared_answers import shared_answers
from tightfit.report.notebook_front import front_csv

router = APIRouter(prefix="/v1/jobs/{job}", tags=["fronts"], responses=problem_responses(401, 403, 404, 422))
PointName = Annotated[str | None, Query(max_length=50, description="A point of the front; else the recommended one.")]
_REPORT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
)
_FRONT_FORMS: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
    **problem_responses(409),
}


@router.get("/front", response_model=FrontDocument, responses=_FRONT_FORMS)
async def show_front(
    request: Request,
    caller: Reader,
    service: ServiceOfApp,
    job: JobId,
    form: Annotated[Literal["json", "csv"], Query(alias="format", description="How it is written.")] = "json",
) -> Response:
    """Return the front as it is now: while the job runs too, from its first measured plans on.

    The document is what `tightfit front JOB --json` prints. 409 as long as there is none.
    """
    if form == "json":
        return await shared_answers(request).answer("front", job, caller, lambda: service.front(job).to_json())

    def written() -> str:
        seen_job(service, caller, job)
        return front_csv(service.front(job))

    return PlainTextResponse(await to_thread.run_sync(written), media_type="text/csv")


@router.get("/explanation", response_model=PointExplanation, responses=problem_responses(409))
def explain(
    caller: Reader,
    service: ServiceOfApp,
    job: JobId,
    point: PointName = None,
) -> Response:
    """Say why each module has its level at a point: its share of the loss, and what the next levels would cost."""
    seen_job(service, caller, job)
    return _json(service.explain(job, point).to_json())


@router.get("/plans/{point}", response_model=dict[str, str], responses=problem_responses(409))
def show_plan(caller: Reader, service: ServiceOfApp, job: JobId, point: str) -> Response:
    """Return module -> level of a point of the front."""
    from tightfit.export.early import named_point

    seen_job(service, caller, job)
    document = service.front(job)
    found = named_point(document, point)
    return _json(service.plans(document)[found.point].to_json())


@router.get("/report", response_class=HTMLResponse, responses=problem_responses(409))
def show_report(caller: Reader, service: ServiceOfApp, job: JobId) -> Response:
    """Return the report: one page with everything inside."""
    seen_job(service, caller, job)
    return HTMLResponse(service.report(job), headers={"Content-Security-Policy": _REPORT_POLICY})


@router.get("/trials", response_model=TrialPage)
def list_trials(
    caller: Reader,
    service: ServiceOfApp,
    job: JobId,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 200,
    after: Annotated[int, Query(ge=-1, le=2**31 - 1, description="The `next` of the page before.")] = -1,
    plans: Annotated[bool, Query(description="With the plan of each.")] = False,
) -> Response:
    """List what was measured, in the order of asking."""
    seen_job(service, caller, job)
    found, total = service.store.page_trials(job, after, limit + 1)
    page = found[:limit]
    following = page[-1].number if len(found) > limit else None
    return _json({"trials": [_told(t, plans=plans) for t in page], "next": following, "total": total})


def _told(trial: Trial, *, plans: bool) -> dict[str, Any]:
    found, held_out = trial.measurement, trial.held_out
    return {
        "trial": trial.number,
        "origin": trial.origin,
        "state": str(trial.state),
        "size_bytes": trial.size_bytes,
        "kl_divergence": None if found is None else found.kl_divergence,
        "perplexity": None if found is None else found.perplexity,
        "held_out_kl_divergence": None if held_out is None else held_out.kl_divergence,
        "reason": trial.reason,
        "plan": trial.plan.to_json() if plans else None,
    }


def _json(value: Any) -> JSONResponse:
    return JSONResponse(value)
