"""Errors as answers of the service: RFC 9457 problem details, one status for each kind of error of our tree."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from space.errors import (
    AccessError,
    ForbiddenError,
    InfeasibleBudgetError,
    JobFailedError,
    NotFoundError,
    OutageError,
    QuotaError,
    StateError,
    StoreError,
    TightfitError,
    TooLargeError,
    UsageError,
    VerificationError,
)
from tightfit.processes.unforeseen import told_unforeseen

MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[TightfitError], int] = {
    UsageError: 422,
    TooLargeError: 413,
    AccessError: 401,
    ForbiddenError: 403,
    QuotaError: 429,
    NotFoundError: 404,
    InfeasibleBudgetError: 422,
    JobFailedError: 409,
    StateError: 409,
    StoreError: 500,
    OutageError: 503,
    VerificationError: 500,
    TightfitError: 500,
}
"""kind of error -> HTTP status; of a kind that is not here, its nearest ancestor's counts"""
RETRY_SECONDS = 5
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}, 503: {"Retry-After": str(RETRY_SECONDS)}}
_NEXT = {
    404: "The paths there are stand in /v1/openapi.json.",
    405: "The methods of each path stand in /v1/openapi.json.",
    400: "Send JSON in UTF-8, with Content-Type: application/json.",
}
_log = logging.getLogger("tightfit.http")


class Fault(BaseModel):
    """One part of a request that cannot be used."""

    where: str = Field(description="Dotted path of the part, such as `body.budget` or `query.limit`.")
    what: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """What is wrong with a request, where, and what to do next (RFC 9457)."""

    type: str = Field(description="Kind of the problem, stable: `urn:tightfit:` and the name of the error.")
    title: str = Field(description="The HTTP status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="One sentence for people: what, where, what to do next.")
    errors: list[Fault] = Field(default=[], description="Each part that is wrong, where more than one may be.")


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the documentation of an operation's problems."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _TITLES[status], "content": content} for status in statuses}


_TITLES = {
    400: "Bad request",
    401: "Who asks is not known",
    403: "Not allowed",
    404: "Not found",
    405: "No such method here",
    408: "Too slow",
    409: "Not now",
    413: "Too large",
    416: "No such range",
    422: "Cannot be used",
    429: "Too many",
    500: "An error of the service",
    503: "Not at the moment",
}


def status_of(error: TightfitError) -> int:
    """Return the HTTP status of an error."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_of(error: TightfitError) -> JSONResponse:
    """Return the answer to a request that ended in an error."""
    name = type(error).__name__.removesuffix("Error")
    kebab = "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")
    return answer(status_of(error), str(error), kind=kebab)


def answer(status: int, detail: str, *, kind: str = "http", faults: Sequence[Fault] = ()) -> JSONResponse:
    """Return a problem as an answer."""
    title = _TITLES.get(status, "Error")
    told = Problem(type=f"urn:tightfit:{kind}", title=title, status=status, detail=detail, errors=list(faults))
    return JSONResponse(told.model_dump(), status, _HEADERS.get(status), MEDIA_TYPE)


def handle_problems(app: FastAPI, home: Path) -> None:
    """Answer every error with a problem; what nobody foresaw leaves its traceback in the home's logs."""

    async def ours(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, TightfitError)  # noqa: S101 (registered for it)
        if status_of(error) >= 500:  # noqa: PLR2004 (errors of the service)
            _log.warning("%s", error)
        return problem_of(error)

    async def unusable(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)  # noqa: S101 (registered for it)
        faults = [Fault(where=_where(found["loc"]), what=_what(found)) for found in error.errors()]
        told = "; ".join(f"{fault.where}: {fault.what}" for fault in faults)
        return answer(422, f"{told}. Mend the request and send it again.", kind="request", faults=faults)

    async def plain(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)  # noqa: S101 (registered for it)
        found = answer(error.status_code, f"{error.detail}. {_NEXT.get(error.status_code, '')}".strip())
        found.headers.update(error.headers or {})
        return found

    async def unforeseen(_: Request, error: Exception) -> JSONResponse:
        return answer(500, f"The service: {told_unforeseen(error, home)}", kind="unforeseen")

    app.add_exception_handler(TightfitError, ours)
    app.add_exception_handler(RequestValidationError, unusable)
    app.add_exception_handler(HTTPException, plain)
    app.add_exception_handler(Exception, unforeseen)


def _where(parts: Sequence[str | int]) -> str:
    return ".".join(str(part) for part in parts)


def _what(found: dict[str, Any]) -> str:
    return str(found["msg"]).removeprefix("Value error, ").removesuffix(".")
