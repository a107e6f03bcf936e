"""Jobs: submitted, listed, looked at, paused, resumed, stopped."""

import os
from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from space.spec import JobSpec, make_spec
from storage.job_summary import Overview, Wanted
from storage.records import JobState
from tightfit.http.admission.allowed_models import AllowedModels
from tightfit.http.admission.submissions import Submissions
from tightfit.http.apart.request_judge import Judge
from tightfit.http.callers import Caller, Reader, Scope, ServiceOfApp, Submitter, seen_job
from tightfit.http.export_shapes import JobDetails
from tightfit.http.problems import problem_responses
from tightfit.http.shapes import (
    Description,
    Inspection,
    JobList,
    JobRequest,
    JobStateName,
    JobStatus,
    LogPart,
    Overrides,
)
from tightfit.http.shared_answers import shared_answers
from tightfit.http.waiting import in_turn
from tightfit.jobs.job_status import overview_json, task_json
from tightfit.service import Service
from workers.bounded_files import open_regular

router = APIRouter(prefix="/v1", tags=["jobs"], responses=problem_responses(400, 401, 403, 413, 422))
JobId = Annotated[str, Path(description="The job's id.", max_length=100)]
_MAX_LOG_BYTES = 2**20
_LOCATION = {"Location": {"description": "The job's address.", "schema": {"type": "string"}}}
_SUBMITTED = {
    200: {
        "model": JobStatus,
        "description": "The same request is this job, which has begun.",
        "headers": _LOCATION,
    },
    202: {"model": JobStatus, "description": "The job is queued.", "headers": _LOCATION},
    **problem_responses(404, 409, 429, 503),
}


@router.post("/inspect", response_model=Inspection, tags=["models"], responses=problem_responses(404, 409))
async def inspect_request(request: Request, caller: Submitter, spec: JobRequest) -> JSONResponse:
    """Say what a job would search and cost, before anything runs; reads no weights.

    Its inventory of modules, the sizes of uniform plans, the range of sizes that can be reached, and an estimate of
    time and disk. A budget that cannot be reached is refused with both sizes.
    """
    checked = _allowed(request, caller, spec.resolved())
    found = await in_turn(_judge(request).dry_run, checked)
    return JSONResponse(found.to_json())


@router.post("/jobs", status_code=202, response_model=JobStatus, responses=_SUBMITTED)
async def submit(
    request: Request,
    caller: Submitter,
    service: ServiceOfApp,
    spec: JobRequest,
    anew: Annotated[bool, Query(description="Make another job even where the same request is one already.")] = False,
    idempotency_key: Annotated[
        str | None,
        Header(min_length=1, max_length=100, description="The same key again: the same job, also with `anew`."),
    ] = None,
) -> Response:
    """Submit a job: the model, the budget and what may be tried, or a preset of that; JSON, or TOML of the same keys.

    Answers 202 once the job is queued; the same request, of the same user, on the same files, is the same job and is
    answered with 200 once it has begun.
    """
    allowed = _allowed(request, caller, spec.resolved())
    return await _submitted(request, caller, service, allowed, anew=anew, key=idempotency_key)


@router.post("/jobs/{job}/again", status_code=202, response_model=JobStatus, responses=_SUBMITTED)
async def submit_again(
    request: Request, caller: Submitter, service: ServiceOfApp, job: JobId, changes: Overrides
) -> Response:
    """Submit a job like an earlier one, with other values where they are given: another budget, more trials.

    It starts from all that the earlier job measured.
    """
    seen_job(service, caller, job)
    spec = make_spec(**{**service.store.glance(job).spec.model_dump(), **changes.values()})
    return await _submitted(request, caller, service, _allowed(request, caller, spec), anew=False)


@router.get("/jobs", response_model=JobList, responses=problem_responses(404))
def list_jobs(
    caller: Reader,
    service: ServiceOfApp,
    state: Annotated[list[JobStateName] | None, Query(description="Only jobs in these states.")] = None,
    model: Annotated[str | None, Query(description="Only jobs whose model's name holds this.", max_length=500)] = None,
    user: Annotated[str | None, Query(description="Only jobs of this user.", max_length=100)] = None,
    label: Annotated[str | None, Query(description="Only jobs whose label holds this.", max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 50,
    after: Annotated[str | None, Query(description="The `next` of the page before.", max_length=100)] = None,
) -> Response:
    """List the jobs that the caller may see, newest first."""
    whose = user if caller.may(Scope.ADMIN) else caller.user
    wanted = Wanted(whose, None if state is None else frozenset(map(JobState, state)), model, label)
    if not caller.may(Scope.ADMIN) and (whose is None or user not in (None, whose)):
        wanted = replace(wanted, states=frozenset())  # jobs of others are not seen
    found, total = service.store.page_overviews(wanted, after, limit + 1)
    page = found[:limit]
    following = page[-1].job_id if len(found) > limit else None
    told = [overview_json(found, service.settings.log_path(found.job_id)) for found in page]
    return JSONResponse({"jobs": told, "next": following, "total": total})


@router.get("/jobs/{job}", response_model=JobDetails, responses=problem_responses(404))
async def show_job(request: Request, caller: Reader, service: ServiceOfApp, job: JobId) -> Response:
    """Tell how far a job is, and its exports and recoveries."""

    def told() -> dict[str, object]:
        tasks = [task_json(task) for task in service.tasks(job)]
        return _json(service, service.store.overview(job)) | {"exports": tasks}

    return await shared_answers(request).answer("status", job, caller, told)


@router.patch("/jobs/{job}", response_model=JobStatus, responses=problem_responses(404))
def describe_job(caller: Submitter, service: ServiceOfApp, job: JobId, told: Description) -> Response:
    """Set what people call a job and note of it."""
    found = seen_job(service, caller, job)
    values = {"label": found.label, "note": found.note} | told.model_dump(exclude_unset=True)
    service.store.describe_job(job, **values)
    return _status(service, seen_job(service, caller, job))


@router.delete("/jobs/{job}", status_code=204, responses=problem_responses(404, 409))
def delete_job(caller: Submitter, service: ServiceOfApp, job: JobId) -> Response:
    """Delete a job that rests, its log and its exports; what it measured stays known to other jobs."""
    seen_job(service, caller, job)
    service.delete(job)
    return Response(status_code=204)


@router.get("/jobs/{job}/spec", response_model=JobSpec, responses=problem_responses(404))
def show_spec(caller: Reader, service: ServiceOfApp, job: JobId) -> Response:
    """Tell what was asked: the whole request, as it could be submitted again."""
    seen_job(service, caller, job)
    return JSONResponse(service.store.glance(job).spec.model_dump(mode="json"))


@router.get("/jobs/{job}/logs", response_model=LogPart, responses=problem_responses(404))
def show_log(
    caller: Reader,
    service: ServiceOfApp,
    job: JobId,
    after: Annotated[int, Query(ge=0, le=2**62, description="The `next` of the part before.")] = 0,
) -> Response:
    """Return a job's log from some byte on, at most 1 MiB of it; empty where it was not run on this machine."""
    seen_job(service, caller, job)
    log = service.settings.log_path(job)
    if not log.exists():
        return JSONResponse({"text": "", "next": 0})
    with open_regular(log) as file:
        begin = file.seek(min(after, file.seek(0, os.SEEK_END)))
        part = file.read(_MAX_LOG_BYTES)
    return JSONResponse({"text": part.decode(errors="replace"), "next": begin + len(part)})


@router.post("/jobs/{job}/pause", response_model=JobStatus, responses=problem_responses(404))
def pause_job(caller: Submitter, service: ServiceOfApp, job: JobId) -> Response:
    """Stop a job until it is resumed; its front so far is kept. Idempotent."""
    seen_job(service, caller, job)
    service.pause(job)
    return _status(service, seen_job(service, caller, job))


@router.post("/jobs/{job}/cancel", response_model=JobStatus, responses=problem_responses(404))
def cancel_job(caller: Submitter, service: ServiceOfApp, job: JobId) -> Response:
    """Stop a job; its front so far is kept. Idempotent."""
    seen_job(service, caller, job)
    service.cancel(job)
    return _status(service, seen_job(service, caller, job))


@router.post("/jobs/{job}/resume", response_model=JobStatus, responses=problem_responses(404, 409))
async def resume_job(caller: Submitter, service: ServiceOfApp, job: JobId) -> Response:
    """Queue a job again that was paused, cancelled, failed or left behind; finished trials are not run again."""
    seen_job(service, caller, job)
    await in_turn(service.requeue, job)  # one whose controller is elsewhere is watched for a while
    return _status(service, seen_job(service, caller, job))


async def _submitted(
    request: Request, caller: Caller, service: Service, spec: JobSpec, *, anew: bool, key: str | None = None
) -> Response:
    """Queue a request's job, and tell whether it was there before."""
    submissions: Submissions = request.app.state.submissions
    job_id = await in_turn(lambda: submissions.submit(spec, caller, anew=anew, key=key))
    found = service.store.overview(job_id)
    is_new = found.started_at is None and not found.state.is_finished
    headers = {"Location": f"/v1/jobs/{job_id}"}
    return JSONResponse(_json(service, found), 202 if is_new else 200, headers)


def _allowed(request: Request, caller: Caller, spec: JobSpec) -> JobSpec:
    """Return a request of a model and text that may be read."""
    allowed: AllowedModels = request.app.state.allowed_models
    return allowed.resolved(spec, caller)


def _judge(request: Request) -> Judge:
    found: Judge = request.app.state.judge
    return found


def _json(service: Service, found: Overview) -> dict[str, object]:
    return overview_json(found, service.settings.log_path(found.job_id))


def _status(service: Service, found: Overview) -> JSONResponse:
    return JSONResponse(_json(service, found))
