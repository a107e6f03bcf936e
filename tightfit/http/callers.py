"""Who asks: found by a token, or whoever sits at this machine where the service is for them alone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Protocol

from fastapi import Depends, Request
from fastapi.security import HTTPBearer
from fastapi.security.http import HTTPAuthorizationCredentials

from space.errors import AccessError, ForbiddenError, NotFoundError
from storage.job_summary import Overview
from storage.people import parts_of
from storage.store import Store
from tightfit.service import Service


class Scope(StrEnum):
    """What a token allows; each allows what stands before it too."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


_ORDER = tuple(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and what they may do: `admin` sees and may do everything, others see what is their own."""

    user: str | None
    scope: Scope
    token_id: str | None = None

    def may(self, scope: Scope) -> bool:
        """Tell whether a scope is allowed."""
        return _ORDER.index(scope) <= _ORDER.index(self.scope)

    def sees(self, user: str | None) -> bool:
        """Tell whether what belongs to a user can be seen."""
        return self.scope is Scope.ADMIN or (user is not None and user == self.user)


class Gate(Protocol):
    """Knows callers by their tokens."""

    def caller(self, token: str | None) -> Caller:
        """Return who has a token, or who has none. Raises AccessError."""


@dataclass(frozen=True, slots=True)
class OpenGate:
    """Lets in whoever reaches a service on loopback: the user whose service it is."""

    user: str | None

    def caller(self, token: str | None) -> Caller:  # noqa: ARG002 (none is known here)
        """Return the user, who may do everything."""
        return Caller(self.user, Scope.ADMIN)


@dataclass(frozen=True, slots=True)
class TokenGate:
    """Lets in who has a token of the store."""

    store: Store

    def caller(self, token: str | None) -> Caller:
        """Return who has a token. Raises AccessError, the same for every one that is not good."""
        if token is None:
            raise AccessError(
                "This service needs a token: `Authorization: Bearer TOKEN`. Ask an administrator for one."
            )
        parts = parts_of(token)
        found = None if parts is None else self.store.find_token(parts[0])
        if parts is None or found is None or not found.opens(parts[1], datetime.now(UTC)):
            raise AccessError("This token is not good: mistyped, revoked or too old. Ask an administrator for one.")
        return Caller(found.user, Scope(found.scope), found.token_id)


COOKIE = "tightfit_token"
"""What the page's browser holds: a token, which no script can read and no other site's page sends."""
_bearer = HTTPBearer(auto_error=False, description="A token of `tightfit token add USER`.")


def _caller(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Caller:
    if given is None and "authorization" in request.headers:
        raise AccessError("The Authorization header cannot be read. Write `Authorization: Bearer TOKEN`.")
    gate: Gate = request.app.state.gate
    token = request.cookies.get(COOKIE) if given is None else given.credentials
    found = gate.caller(token)
    request.state.caller = found
    request.state.known_again = lambda: gate.caller(token)  # raises once it is good no more: for long answers
    return found


def _checked(caller: Caller, scope: Scope) -> Caller:
    if not caller.may(scope):
        raise ForbiddenError(
            f"This needs a token with the scope `{scope}`; that of {caller.user} has `{caller.scope}`. Ask an "
            "administrator for another one."
        )
    return caller


# Not in threads, as FastAPI runs plain functions: a read crossed to one and back four times.
async def _reader(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    return _checked(caller, Scope.READ)


async def _submitter(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    return _checked(caller, Scope.SUBMIT)


async def _administrator(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
    return _checked(caller, Scope.ADMIN)


async def _service(request: Request) -> Service:
    found: Service = request.app.state.service
    return found


Reader = Annotated[Caller, Depends(_reader)]
Submitter = Annotated[Caller, Depends(_submitter)]
Administrator = Annotated[Caller, Depends(_administrator)]
ServiceOfApp = Annotated[Service, Depends(_service)]


def seen_job(service: Service, caller: Caller, job_id: str) -> Overview:
    """Return a job in short that a caller may see. Raises NotFoundError, the same for one that is another user's."""
    try:
        found = service.store.overview(job_id)
    except NotFoundError as error:
        raise unseen_job(job_id) from error
    if not caller.sees(found.user):
        raise unseen_job(job_id)
    return found


def unseen_job(job_id: str) -> NotFoundError:
    """Return the error of a job that is not there, or is another user's."""
    return NotFoundError(f"There is no job {job_id[:100]!a} of yours. GET /v1/jobs lists those there are.")
