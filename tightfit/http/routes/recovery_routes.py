"""Recoveries: points of fronts made better in the same bytes by whoever works, kept where held-out text shows it."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse

from space.errors import NotFoundError
from storage.point_tasks import PointTask, TaskKind
from tightfit.http.admission.allowed_models import AllowedModels
from tightfit.http.apart.request_judge import Judge
from tightfit.http.callers import Caller, Reader, ServiceOfApp, Submitter, seen_job
from tightfit.http.export_shapes import ExportStatus, RecoveryList, RecoveryRequest
from tightfit.http.problems import problem_responses
from tightfit.http.routes.job_routes import JobId
from tightfit.http.waiting import in_turn
from tightfit.jobs.job_status import task_json
from tightfit.service import Service
from tightfit.tasks.asked_recovery import RecoverWish

router = APIRouter(prefix="/v1", tags=["recoveries"], responses=problem_responses(400, 401, 403, 413, 422))
TaskId = Annotated[str, Path(description="The recovery's id.", max_length=100)]
_LOCATION = {"Location": {"description": "The recovery's address.", "schema": {"type": "string"}}}
_QUEUED: dict[int | str, dict[str, Any]] = {
    202: {"model": ExportStatus, "description": "The recovery is queued.", "headers": _LOCATION},
    **problem_responses(404, 409),
}
_NOT_FOUND = problem_responses(404)


@router.post("/jobs/{job}/recoveries", status_code=202, response_model=ExportStatus, responses=_QUEUED)
async def recover(
    request: Request, caller: Submitter, service: ServiceOfApp, job: JobId, asked: RecoveryRequest
) -> Response:
    """Make a point of a front better in the same bytes; kept only where held-out text shows it.

    Where it is kept, the front has one more point, which is looked at, tried and exported as the others are.
    """
    seen_job(service, caller, job)
    allowed: AllowedModels = request.app.state.allowed_models
    allowed.check_text(asked.text, "text", "more of the job's text")
    judge: Judge = request.app.state.judge
    task = await in_turn(judge.recover, job, RecoverWish(**asked.model_dump()), caller.user)
    return JSONResponse(task_json(task), 202, {"Location": f"/v1/recoveries/{task.task_id}"})


@router.get("/jobs/{job}/recoveries", response_model=RecoveryList, responses=_NOT_FOUND)
def list_recoveries_of_job(caller: Reader, service: ServiceOfApp, job: JobId) -> Response:
    """List the recoveries of a job, newest first."""
    seen_job(service, caller, job)
    found = [task_json(task) for task in service.tasks(job) if task.kind is TaskKind.RECOVER]
    return JSONResponse({"recoveries": found})


@router.get("/recoveries", response_model=RecoveryList)
def list_recoveries(caller: Reader, service: ServiceOfApp) -> Response:
    """List the recoveries of all jobs that the caller may see, newest first."""
    users = {found.job_id: found.user for found in service.store.list_overviews()}
    tasks = [task for task in service.tasks() if task.kind is TaskKind.RECOVER and task.job_id in users]
    return JSONResponse({"recoveries": [task_json(task) for task in tasks if caller.sees(users[task.job_id])]})


@router.get("/recoveries/{task}", response_model=ExportStatus, responses=_NOT_FOUND)
def show_recovery(caller: Reader, service: ServiceOfApp, task: TaskId) -> Response:
    """Tell how far a recovery is, and what came of it: its point, and each method's figures."""
    return JSONResponse(task_json(_seen(service, caller, task)))


@router.post("/recoveries/{task}/cancel", response_model=ExportStatus, responses=_NOT_FOUND)
def cancel_recovery(caller: Submitter, service: ServiceOfApp, task: TaskId) -> Response:
    """Stop a recovery; the front stays as it is. Idempotent."""
    _seen(service, caller, task)
    return JSONResponse(task_json(service.cancel_task(task)))


@router.post("/recoveries/{task}/resume", response_model=ExportStatus, responses=_NOT_FOUND)
async def resume_recovery(caller: Submitter, service: ServiceOfApp, task: TaskId) -> Response:
    """Queue a recovery again that failed, was cancelled or left behind."""
    _seen(service, caller, task)
    return JSONResponse(task_json(await in_turn(service.requeue_task, task)))


def _seen(service: Service, caller: Caller, task_id: str) -> PointTask:
    """Return a recovery that a caller may see: that of a job of theirs."""
    unseen = NotFoundError(f"There is no recovery {task_id!a} of yours. GET /v1/jobs/JOB/recoveries lists them.")
    try:
        found = service.store.get_task(task_id)
        seen_job(service, caller, found.job_id)
    except NotFoundError as error:
        raise unseen from error
    if found.kind is not TaskKind.RECOVER:
        raise unseen
    return found
