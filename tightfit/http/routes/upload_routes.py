"""Models that are sent to the service: announced, received in parts that can be sent again, submitted by their id."""

import re
from contextlib import ExitStack
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from space.errors import StateError, UsageError
from tightfit.http.admission.allowed_models import seen_upload
from tightfit.http.admission.quotas import Quotas
from tightfit.http.callers import Reader, ServiceOfApp, Submitter
from tightfit.http.problems import problem_responses
from tightfit.http.upload_shapes import UploadList, UploadRequest, UploadStatus
from tightfit.http.waiting import in_turn
from tightfit.uploads.announced import Announced, AnnouncedFile
from tightfit.uploads.part_file import PartFile
from tightfit.uploads.upload_store import SCHEME, Upload, UploadStore

PARTS = re.compile(r"/v1/uploads/[^/]+/files/[^/]+")
"""Where parts are sent to."""
router = APIRouter(prefix="/v1/uploads", tags=["models"], responses=problem_responses(400, 401, 403, 404, 413, 422))
UploadId = Annotated[str, Path(description="The upload's id.", max_length=100)]
_LOCATION = {"Location": {"description": "The upload's address.", "schema": {"type": "string"}}}
_BEGUN: dict[int | str, dict[str, Any]] = {
    200: {"model": UploadStatus, "description": "It was begun before; this is how far it is.", "headers": _LOCATION},
    201: {"model": UploadStatus, "description": "Its files can be sent.", "headers": _LOCATION},
    **problem_responses(429),
}
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BODY = {"requestBody": {"description": "The bytes of the part.", "required": True, "content": _BYTES}}
_WRITTEN_BYTES = 2**20


@router.post("", status_code=201, response_model=UploadStatus, responses=_BEGUN)
def begin_upload(request: Request, caller: Submitter, service: ServiceOfApp, asked: UploadRequest) -> Response:
    """Announce a model: all of its files with sizes and digests; what cannot be taken is refused before any byte.

    The same announcement of the same user is the same upload, so that whoever was interrupted announces again and
    sends what is missing.
    """
    uploads = _uploads(request)
    files = sorted((AnnouncedFile(**file.model_dump()) for file in asked.files), key=lambda file: file.name)
    announced = Announced(asked.name, caller.user, files)
    is_new = not uploads.is_there(announced.upload_id)
    announced.check()
    if is_new:
        quotas: Quotas = request.app.state.quotas
        quotas.check_disk(service, uploads, caller, announced.size_bytes)
    told = _json(uploads.create(announced))
    return JSONResponse(told, 201 if is_new else 200, {"Location": f"/v1/uploads/{announced.upload_id}"})


@router.get("", response_model=UploadList)
def list_uploads(request: Request, caller: Reader) -> Response:
    """List the uploads that the caller may see, newest first."""
    found = [upload for upload in _uploads(request).list() if caller.sees(upload.announced.user)]
    return JSONResponse({"uploads": [_json(upload) for upload in found]})


@router.get("/{upload}", response_model=UploadStatus)
def show_upload(request: Request, caller: Reader, upload: UploadId) -> Response:
    """Tell how much of a model is here."""
    return JSONResponse(_json(seen_upload(_uploads(request), caller, upload)))


@router.put(
    "/{upload}/files/{name}", response_model=UploadStatus, responses=problem_responses(409), openapi_extra=_BODY
)
async def send_part(
    request: Request,
    caller: Submitter,
    upload: UploadId,
    name: Annotated[str, Path(description="One of its files.", max_length=255)],
    offset: Annotated[int, Query(ge=0, le=2**48, description="Where the part begins: `received_bytes` so far.")] = 0,
    content_digest: Annotated[
        str | None, Header(max_length=200, description="`sha-256=:BASE64:` of the part (RFC 9530).")
    ] = None,
) -> Response:
    """Send the next part of a file, at most 64 MiB; what arrived stays, where the part broke off too.

    A file is taken once it is whole and has the sha256 that was announced, and the model once all of its files are.
    """
    uploads = _uploads(request)
    seen_upload(uploads, caller, upload)
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise UsageError("A part needs a Content-Length, and has none that can be read.")
    with ExitStack() as stack:
        part = stack.enter_context(uploads.receiving(upload, name, offset))
        part.check_room(int(length))
        await _receive(request, part)
        await to_thread.run_sync(part.check, content_digest)
        await in_turn(stack.close)  # the whole file is read once more
    return JSONResponse(_json(uploads.find(upload)))


@router.delete("/{upload}", status_code=204, responses=problem_responses(409))
def delete_upload(request: Request, caller: Submitter, service: ServiceOfApp, upload: UploadId) -> Response:
    """Delete an upload that no job needs which waits, runs or is paused."""
    uploads = _uploads(request)
    found = seen_upload(uploads, caller, upload)
    users = [
        j.job_id for j in service.store.list_overviews() if j.model == str(found.folder) and not j.state.is_finished
    ]
    if users:
        raise StateError(f"Upload {upload} is the model of job {users[0]}, which has not ended. Cancel that first.")
    uploads.delete(upload)
    return Response(status_code=204)


async def _receive(request: Request, part: PartFile) -> None:
    """Write what comes, about 1 MiB at a time."""
    waiting = bytearray()
    try:
        async for piece in request.stream():
            waiting += piece
            if len(waiting) >= _WRITTEN_BYTES:
                await to_thread.run_sync(part.write, bytes(waiting))
                waiting.clear()
    except ClientDisconnect as error:
        await to_thread.run_sync(part.write, bytes(waiting))
        raise UsageError("The part broke off. Ask how much is here, and go on.") from error
    await to_thread.run_sync(part.write, bytes(waiting))


def _uploads(request: Request) -> UploadStore:
    found: UploadStore = request.app.state.uploads
    return found


def _json(upload: Upload) -> dict[str, Any]:
    announced, received = upload.announced, upload.received
    return {
        "upload": upload.upload_id,
        "model": f"{SCHEME}{upload.upload_id}",
        "name": announced.name,
        "user": announced.user,
        "state": "READY" if upload.is_ready else "RECEIVING",
        "size_bytes": announced.size_bytes,
        "received_bytes": sum(received.values()),
        "files": [
            {"name": f.name, "size_bytes": f.size_bytes, "sha256": f.sha256, "received_bytes": received[f.name]}
            for f in announced.files
        ],
    }
