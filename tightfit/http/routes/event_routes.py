"""What happens to a job, as server-sent events."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from storage.events import EventKind
from tightfit.http.callers import Reader
from tightfit.http.event_streams import EventStreams, as_long_as
from tightfit.http.problems import problem_responses
from tightfit.http.routes.job_routes import JobId
from tightfit.http.shared_answers import shared_answers

router = APIRouter(prefix="/v1/jobs/{job}", tags=["events"], responses=problem_responses(401, 403, 404, 422, 429))
_MEDIA_TYPE = "text/event-stream"
_EVENT = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "pattern": "^[0-9]+$"},
        "event": {"enum": [str(kind) for kind in EventKind]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events: `id` is the event's number, `event` its kind (job, request, phase, trial, "
        "front, task), `data` a JSON object.",
        "content": {_MEDIA_TYPE: {"schema": _EVENT}},
    }
}
_MOST = 2**31 - 1


@router.get("/events", response_class=StreamingResponse, responses=_STREAM)
async def events(
    request: Request,
    caller: Reader,
    job: JobId,
    after: Annotated[int, Query(ge=0, le=_MOST, description="Only events of higher numbers.")] = 0,
    follow: Annotated[bool, Query(description="Stay, and send what happens next.")] = True,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=_MOST, description="As browsers send it when they reconnect; stronger than `after`."),
    ] = None,
) -> StreamingResponse:
    """Stream what happens to a job, from the first event on or from where one left off.

    Kinds: `job` (its state), `request` (somebody asks it to stop), `phase`, `trial` (one measured plan), `front` (a new
    front: look at it), `task` (an export). A stream that follows has no end, unless the job is deleted.
    """
    await shared_answers(request).check_seen(job, caller)
    streams: EventStreams = request.app.state.event_streams
    if follow:
        streams.check_room()
    start = after if last_event_id is None else last_event_id
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    told = as_long_as(request.state.known_again, streams.stream(job, start, follow=follow))
    return StreamingResponse(told, media_type=_MEDIA_TYPE, headers=headers)
