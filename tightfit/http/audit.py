"""What was asked of the service that might change something, by whom, and what was answered: kept in the database."""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from anyio import to_thread
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from space.errors import StoreError
from storage.people import AuditEntry
from storage.store import Store
from tightfit.http.callers import Caller

_SAFE = ("GET", "HEAD", "OPTIONS")
_LONGEST = 500  # characters of an address
_log = logging.getLogger("tightfit.audit")


def _may_change(scope: Scope) -> bool:
    """Tell whether a request may have changed something."""
    return scope["method"] not in _SAFE and not scope.get("state", {}).get("only_looks")


class Audited:
    """An ASGI application that notes what was asked of another one.

    Of those who are not known only the service's log tells, with their address: a database is not filled by strangers.
    """

    def __init__(self, app: ASGIApp, store: Store, changed: Callable[[], None] = lambda: None) -> None:
        """Remember all; `changed` is called before an answer is sent to what may have changed something."""
        self._app, self._store, self._changed = app, store, changed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note it once it is answered."""
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if _may_change(scope):
                    self._changed()
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            if scope["type"] == "http" and (_may_change(scope) or status in (401, 403)):
                await self._note(scope, status)

    async def _note(self, scope: Scope, status: int) -> None:
        caller = scope.get("state", {}).get("caller")
        route, address = getattr(scope.get("route"), "path", "none"), scope["path"][:_LONGEST]
        action = f"{scope['method']} {route}"
        if not isinstance(caller, Caller):
            client = (scope.get("client") or ("unknown",))[0]
            _log.warning("%s %s from %s: %d", action, ascii(address), client, status)
            return
        entry = AuditEntry(datetime.now(UTC), caller.user, caller.token_id, action, address, status)
        try:
            await to_thread.run_sync(self._store.add_audit, entry)
        except StoreError as error:
            _log.warning("Not noted (%s): %s", error, entry)
