"""Reads that many ask for at once: answered together, so that the database is asked once in a moment for all."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread
from fastapi import Request, Response
from fastapi.responses import JSONResponse

from space.errors import NotFoundError, TightfitError
from tightfit.http.callers import Caller, unseen_job
from tightfit.service import Service

SECONDS = 0.5
"""An answer is given again for so long; what is changed through this service, or told by an event, ends it at once."""
_MOST = 256  # answers that are kept


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is said of a user's job, as the body of an answer or as an error, and when it was found out."""

    user: str | None
    made_at: float
    body: bytes = b""
    error: TightfitError | None = None


@dataclass
class SharedAnswers:
    """Answers about jobs, each kept for a moment.

    Attributes:
        service: what is asked.
        seconds: how long they are kept.

    """

    service: Service
    seconds: float = SECONDS
    _kept: dict[tuple[str, str], _Answer] = field(default_factory=dict)
    _making: dict[tuple[str, str], "asyncio.Task[_Answer]"] = field(default_factory=dict)
    _changes: int = 0

    async def answer(self, what: str, job_id: str, caller: Caller, tell: Callable[[], Any]) -> Response:
        """Return what `tell` returns, as JSON, to a caller who may see the job; it runs in a thread.

        Args:
            what: is asked: the same of a job is told in the same way.
            job_id: the job.
            caller: who asks.
            tell: makes the answer.

        Raises:
            NotFoundError: there is no such job, or it is another user's.

        """
        key = (what, job_id)
        found = self._kept.get(key)
        if found is None or time.monotonic() - found.made_at >= self.seconds:
            if key not in self._making:
                self._making[key] = asyncio.create_task(self._made(key, tell))
            found = await asyncio.shield(self._making[key])
        if not caller.sees(found.user):
            raise unseen_job(job_id)
        if found.error is not None:
            raise found.error
        return Response(found.body, media_type="application/json")

    async def check_seen(self, job_id: str, caller: Caller) -> None:
        """Raise NotFoundError where there is no such job, or it is another user's."""
        await self.answer("whose", job_id, caller, dict)

    def forget(self) -> None:
        """Give no answer any more that was made, or begun, before now."""
        self._changes += 1
        self._kept.clear()
        self._making.clear()

    async def _made(self, key: tuple[str, str], tell: Callable[[], Any]) -> _Answer:
        """Make an answer, and keep it unless something has changed meanwhile."""
        changes, this = self._changes, asyncio.current_task()
        try:
            found = await to_thread.run_sync(self._told, key[1], tell)
        finally:
            if self._making.get(key) is this:
                del self._making[key]
        if self._changes == changes and found.error is None:
            while len(self._kept) >= _MOST:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = found
        return found

    def _told(self, job_id: str, tell: Callable[[], Any]) -> _Answer:
        made_at = time.monotonic()
        try:
            user = self.service.store.overview(job_id).user
        except NotFoundError as error:
            raise unseen_job(job_id) from error
        try:
            return _Answer(user, made_at, bytes(JSONResponse(tell()).body))
        except TightfitError as error:  # told to those alone who may see the job
            return _Answer(user, made_at, error=error)


def shared_answers(request: Request) -> SharedAnswers:
    """Return those of the application that is asked."""
    found: SharedAnswers = request.app.state.shared_answers
    return found
