"""A point of a front answers a prompt beside the dense model."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse
from pydantic import ConfigDict, Field

from space.errors import TightfitError
from tightfit.http.apart.tryouts import Tryouts
from tightfit.http.callers import ServiceOfApp, Submitter, seen_job
from tightfit.http.problems import problem_responses
from tightfit.http.routes.job_routes import JobId
from tightfit.http.shapes import Shape
from tightfit.http.waiting import in_turn
from workers.runtime.prompt import Prompt

router = APIRouter(
    prefix="/v1/jobs/{job}", tags=["fronts"], responses=problem_responses(400, 401, 403, 404, 409, 413, 422, 429, 500)
)
_MEDIA_TYPE = "application/x-ndjson"
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One JSON object a line: `who` (`point` or `dense`), `text` that comes next, `num_tokens` and "
        "`seconds` so far, `is_last`; or `error`, a sentence, where the answer broke off.",
        "content": {_MEDIA_TYPE: {"schema": {"type": "string"}}},
    }
}
PointName = Annotated[str | None, Field(max_length=50)]


class Question(Shape):
    """A prompt, and how it is to be answered."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    prompt: str = Field(min_length=1, max_length=20_000, examples=["def read_lines(path):"])
    point: PointName = None
    """A point of the front; else the recommended one."""
    is_chat: bool = False
    """Write the prompt as a user's turn, by the model's chat template."""
    max_tokens: int = Field(128, ge=1, le=1024)
    """Both answers stop after so many."""
    temperature: float = Field(0.0, ge=0.0, le=5.0, allow_inf_nan=False)
    """0 takes the likeliest token."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Of the draws, the same for both."""


@router.post("/answers", response_class=StreamingResponse, responses=_STREAM)
async def answer_prompt(
    request: Request, caller: Submitter, service: ServiceOfApp, job: JobId, question: Question
) -> StreamingResponse:
    """Stream what a point of the front and the dense model answer to a prompt, token by token.

    A process of the service holds both, unpacked; one prompt is answered at a time.
    """
    seen_job(service, caller, job)
    tryouts: Tryouts = request.app.state.tryouts
    pieces = tryouts.pieces(job, question.point, _prompt(question))
    first = await in_turn(next, pieces)  # what is wrong with the question is told by the status
    return StreamingResponse(_lines(first, pieces), media_type=_MEDIA_TYPE)


def _prompt(question: Question) -> Prompt:
    told = question.model_dump(exclude={"prompt", "point"})
    return Prompt(question.prompt, **told)


def _lines(first: dict[str, Any], pieces: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield json.dumps(first) + "\n"
    try:
        for piece in pieces:
            yield json.dumps(piece) + "\n"
    except TightfitError as error:
        yield json.dumps({"error": str(error)}) + "\n"
