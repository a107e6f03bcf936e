"""Who asks: signing in from a page, and what was asked by whom."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from tightfit.http.callers import COOKIE, Administrator, Caller, Gate, Reader, ServiceOfApp
from tightfit.http.people_shapes import AuditPage, SignIn, WhoAmI
from tightfit.http.problems import problem_responses

router = APIRouter(prefix="/v1", tags=["people"], responses=problem_responses(400, 401, 403, 413, 422))
_SIGNED_IN_SECONDS = 12 * 3600


@router.get("/me", response_model=WhoAmI)
def who_am_i(caller: Reader) -> Response:
    """Say who asks, and what they may do."""
    return _told(caller)


@router.post("/session", response_model=WhoAmI)
def sign_in(request: Request, asked: SignIn) -> Response:
    """Have a browser hold a token for 12 hours, in a cookie that no script reads and no other site's page sends."""
    gate: Gate = request.app.state.gate
    request.state.caller = gate.caller(asked.token)
    found = _told(request.state.caller)
    seen = request.headers.get("origin", str(request.url))  # by the browser: TLS may end at a proxy
    is_safe = seen.startswith("https://")
    found.set_cookie(COOKIE, asked.token, _SIGNED_IN_SECONDS, httponly=True, samesite="strict", secure=is_safe)
    return found


@router.delete("/session", status_code=204)
def sign_out() -> Response:
    """Have a browser forget its token."""
    found = Response(status_code=204)
    found.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return found


@router.get("/audit", response_model=AuditPage)
def show_audit(
    _: Administrator,
    service: ServiceOfApp,
    after: Annotated[int, Query(ge=0, le=2**62, description="The `next` of the page before.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 200,
) -> Response:
    """List what was asked that might have changed something, by whom, and what was answered."""
    found = service.store.list_audit(after, limit)
    entries = [
        {
            "number": entry.number,
            "at": entry.at.isoformat(),
            "user": entry.user,
            "token": entry.token_id,
            "action": entry.action,
            "subject": entry.subject,
            "status": entry.status,
        }
        for entry in found
    ]
    return JSONResponse({"entries": entries, "next": found[-1].number if found else after})


def _told(caller: Caller) -> JSONResponse:
    return JSONResponse({"user": caller.user, "scope": str(caller.scope), "token": caller.token_id})
