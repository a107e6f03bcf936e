"""Exports: points of fronts written as checkpoints by whoever works, and their files."""

import base64
import shutil
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import FileResponse, JSONResponse

from space.errors import NotFoundError, StateError
from storage.point_tasks import PointTask, TaskKind, TaskState
from tightfit.http.admission.quotas import Quotas
from tightfit.http.callers import Caller, Reader, ServiceOfApp, Submitter, seen_job
from tightfit.http.export_shapes import ExportFiles, ExportList, ExportRequest, ExportStatus
from tightfit.http.problems import problem_responses
from tightfit.http.routes.job_routes import JobId
from tightfit.http.waiting import in_turn
from tightfit.jobs.job_status import task_json
from tightfit.service import Service

router = APIRouter(prefix="/v1", tags=["exports"], responses=problem_responses(400, 401, 403, 404, 413, 422))
TaskId = Annotated[str, Path(description="The export's id.", max_length=100)]
FileName = Annotated[str, Path(description="One of its files.", max_length=255)]
_LOCATION = {"Location": {"description": "The export's address.", "schema": {"type": "string"}}}
_QUEUED: dict[int | str, dict[str, Any]] = {
    202: {"model": ExportStatus, "description": "The export is queued.", "headers": _LOCATION},
    **problem_responses(409, 429),
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file. `Repr-Digest` has its sha256 where that is known (RFC 9530).",
        "content": _BYTES,
    },
    206: {"description": "The part of it that `Range` names.", "content": _BYTES},
    416: {"description": "It has no such part."},
    **problem_responses(409),
}


@router.post("/jobs/{job}/exports", status_code=202, response_model=ExportStatus, responses=_QUEUED)
def export(request: Request, caller: Submitter, service: ServiceOfApp, job: JobId, asked: ExportRequest) -> Response:
    """Export a point of a front: it is written, loaded again in a fresh process and compared with the record.

    The point that is named, the best within a budget, or else the recommended one; at any moment that there is a front.
    """
    seen_job(service, caller, job)
    quotas: Quotas = request.app.state.quotas
    quotas.check_disk(service, request.app.state.uploads, caller, service.front(job).budget_bytes)
    out = service.settings.new_export_folder(job)
    task = service.queue_export(job, out, asked.point, asked.budget, asked.target, refit=asked.refit, user=caller.user)
    return JSONResponse(task_json(task), 202, {"Location": f"/v1/exports/{task.task_id}"})


@router.get("/jobs/{job}/exports", response_model=ExportList)
def list_exports_of_job(caller: Reader, service: ServiceOfApp, job: JobId) -> Response:
    """List the exports of a job, newest first."""
    seen_job(service, caller, job)
    return JSONResponse({"exports": [task_json(task) for task in service.tasks(job) if task.kind is TaskKind.EXPORT]})


@router.get("/exports", response_model=ExportList)
def list_exports(caller: Reader, service: ServiceOfApp) -> Response:
    """List the exports of all jobs that the caller may see, newest first."""
    users = {found.job_id: found.user for found in service.store.list_overviews()}
    seen = [task_json(task) for task in service.tasks() if task.job_id in users and caller.sees(users[task.job_id])]
    return JSONResponse({"exports": seen})


@router.get("/exports/{task}", response_model=ExportStatus)
def show_export(caller: Reader, service: ServiceOfApp, task: TaskId) -> Response:
    """Tell how far an export is, and what came of it."""
    return JSONResponse(task_json(_seen(service, caller, task)))


@router.post("/exports/{task}/cancel", response_model=ExportStatus)
def cancel_export(caller: Submitter, service: ServiceOfApp, task: TaskId) -> Response:
    """Stop an export; nothing half-written is left. Idempotent."""
    _seen(service, caller, task)
    return JSONResponse(task_json(service.cancel_task(task)))


@router.post("/exports/{task}/resume", response_model=ExportStatus)
async def resume_export(caller: Submitter, service: ServiceOfApp, task: TaskId) -> Response:
    """Queue an export again that failed, was cancelled or left behind."""
    _seen(service, caller, task)
    return JSONResponse(task_json(await in_turn(service.requeue_task, task)))


@router.get("/exports/{task}/files", response_model=ExportFiles, responses=problem_responses(409))
def list_files(caller: Reader, service: ServiceOfApp, task: TaskId) -> Response:
    """List the files of an export that is done, with their sizes; and the sha256 of weights."""
    found = _seen(service, caller, task)
    digests = _digests(found)
    told = [
        {"name": path.name, "size_bytes": path.stat().st_size, "sha256": digests.get(path.name)}
        for path in _files(service, found)
    ]
    return JSONResponse({"files": told})


@router.get("/exports/{task}/files/{name}", response_class=FileResponse, responses=_FILE)
def get_file(caller: Reader, service: ServiceOfApp, task: TaskId, name: FileName) -> Response:
    """Return a file of an export; a download that broke off goes on by `Range`."""
    found = _seen(service, caller, task)
    path = next((path for path in _files(service, found) if path.name == name), None)
    if path is None:
        raise NotFoundError(f"Export {task} has no file {name!a}. GET /v1/exports/{task}/files lists them.")
    digest = _digests(found).get(name)
    told = {} if digest is None else {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"}
    return FileResponse(path, media_type="application/octet-stream", filename=name, headers=told)


@router.delete("/exports/{task}/files", status_code=204, responses=problem_responses(409))
def delete_files(caller: Submitter, service: ServiceOfApp, task: TaskId) -> Response:
    """Delete the files of an export that is done; its record stays."""
    found = _seen(service, caller, task)
    _files(service, found)
    shutil.rmtree(found.out)
    return Response(status_code=204)


def _seen(service: Service, caller: Caller, task_id: str) -> PointTask:
    """Return an export that a caller may see: that of a job of theirs."""
    unseen = NotFoundError(f"There is no export {task_id!a} of yours. GET /v1/jobs/JOB/exports lists them.")
    try:
        found = service.store.get_task(task_id)
        seen_job(service, caller, found.job_id)
    except NotFoundError as error:
        raise unseen from error
    return found


def _files(service: Service, task: PointTask) -> list[FilePath]:
    """Return the files of an export that was made for the service and is done."""
    folder = FilePath(task.out)
    if task.state is not TaskState.DONE:
        raise StateError(f"Export {task.task_id} is {task.state}; its files are there once it is DONE.")
    if not service.settings.holds_export(folder):
        raise StateError(f"Export {task.task_id} was written elsewhere ({folder}); its files are not given away here.")
    if not folder.is_dir():
        raise NotFoundError(f"The files of export {task.task_id} were deleted. Export the point again.")
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())


def _digests(task: PointTask) -> dict[str, str]:
    """Return name -> sha256 of weight files, as the export was verified."""
    found: dict[str, str] = (task.result or {}).get("sha256") or {}
    return found
