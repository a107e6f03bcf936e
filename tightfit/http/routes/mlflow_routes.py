"""MLflow behind the same door: what it shows is passed on to those whom the service knows.

MLflow has no users: it shows the jobs of all, so that administrators alone see it, unless `--share-mlflow` says that
all may who read; they can look at everything then, and change nothing.
"""

import re
from urllib.parse import quote

from anyio import to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from space.errors import ForbiddenError, NotFoundError
from storage.tracking.mlflow_server import find_server
from tightfit.client.forwarding import Forwarding
from tightfit.http.callers import Caller, Reader, Scope, ServiceOfApp

PREFIX = "/mlflow"
router = APIRouter(include_in_schema=False)
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
_LOOKS = re.compile(r"/(ajax-)?api/[23]\.0/mlflow/[\w/-]*(search|get|list|get-history-bulk|batch-get)[\w-]*|/graphql")
_FILES = re.compile(r"/get-artifact|/model-versions/get-artifact|/(ajax-)?api/2\.0/mlflow-artifacts/.*")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; img-src 'self' data: "
    "blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self'; object-src 'none'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_OF_FILES = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Files of runs are shown as anybody's: without scripts, and not as pages of this service."""


def may_see(request: Request, caller: Caller) -> bool:
    """Tell whether MLflow is passed on to a caller."""
    return caller.may(Scope.ADMIN) or bool(request.app.state.is_mlflow_shared)


@router.get(PREFIX)
def begin(_: Reader) -> Response:
    """Lead to MLflow's first page: its addresses are relative to that."""
    return RedirectResponse(f"{PREFIX}/")


@router.api_route(PREFIX + "/{path:path}", methods=_METHODS)
async def pass_on(request: Request, caller: Reader, service: ServiceOfApp, path: str) -> Response:
    """Pass a request on to the MLflow of this home, and its answer back."""
    if not may_see(request, caller):
        raise ForbiddenError(
            "MLflow shows the jobs of all, so that administrators alone see it. `tightfit serve --share-mlflow` shows "
            "it to everybody with a token."
        )
    where = f"/{path}"
    is_look = request.method in ("GET", "HEAD") or (request.method == "POST" and _LOOKS.fullmatch(where) is not None)
    if not is_look and not caller.may(Scope.ADMIN):
        raise ForbiddenError("Administrators alone change what MLflow shows: everybody's jobs are there.")
    request.state.only_looks = is_look
    server = await to_thread.run_sync(find_server, service.settings.home)
    if server is None:
        raise NotFoundError("No MLflow of this home answers; it may still be starting. Try again in a moment.")
    forwarding: Forwarding = request.app.state.forwarding
    found = await forwarding.forward(
        server.url,
        request.method,
        quote(where, safe="/:@!$&'()*+,;=~"),
        request.url.query,
        request.headers.items(),
        await request.body(),
    )
    policy = _OF_FILES if _FILES.fullmatch(where) else _POLICY
    headers = {**found.headers, "content-security-policy": policy, "x-content-type-options": "nosniff"}
    return StreamingResponse(found.parts, found.status, headers)
