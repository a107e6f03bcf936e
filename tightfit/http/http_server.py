"""Serving the application: `python -m tightfit.http.http_server`, a child process of `tightfit serve`."""

import asyncio
import json
import os
import resource
import socket
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from space.errors import OutageError
from tightfit.config import load_settings, login_name
from tightfit.http.admission.quotas import Quotas
from tightfit.http.api import ApiOptions, create_app
from tightfit.http.callers import OpenGate, TokenGate
from tightfit.http.problems import problem_of
from tightfit.service import Service

HEAD_SECONDS = 20.0
"""From a connection's first moment, or a request's first byte, until its head is there."""
MAX_CONNECTIONS = 4000
_OTHER_FILES = 200
_KEEP_ALIVE_SECONDS = 30
_END_SECONDS = 5


def run(listening: socket.socket, options: ApiOptions, *, needs_tokens: bool) -> None:
    """Serve the home of the environment on a socket that listens already, until SIGTERM."""
    service = Service(load_settings())
    gate = TokenGate(service.store) if needs_tokens else OpenGate(login_name())
    app = create_app(service, gate, options)
    uvicorn.Server(configured(app)).run(sockets=[listening])


def configured(app: ASGIApp) -> uvicorn.Config:
    """Return how an application is served."""
    return uvicorn.Config(
        _Parting(app),
        http=_PatientProtocol,
        limit_concurrency=_allow_connections(),
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
    )


class _Parting:
    """An application around another one; who still waits for it when the service stops is told to ask again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; answer it where the server cuts it off before anything else did."""
        is_answered = scope["type"] != "http"

        async def sending(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except asyncio.CancelledError:
            if is_answered:
                raise
            stops = OutageError("The service stops, and did not wait for this request. Send it again once it is back.")
            await problem_of(stops)(scope, receive, send)


class _PatientProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, which itself waits for ever for the head of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._met()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request; one that is not answered yet is expected to go on."""
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._met()
        else:
            self._expect()

    def _expect(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _met(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _allow_connections() -> int:
    """Let this process have as many files as that many connections take, as far as may be; return for how many."""
    files, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _OTHER_FILES
    if 0 <= files < wanted:  # infinity is -1
        files = wanted if most == resource.RLIM_INFINITY else min(most, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, most))
    return MAX_CONNECTIONS if files < 0 else min(MAX_CONNECTIONS, max(1, files - _OTHER_FILES))


def main() -> None:
    """Serve what the command line says: one JSON object with the socket's number and the options."""
    asked = json.loads(sys.argv[1])
    options = ApiOptions(
        host=asked["host"],
        allowed_hosts=tuple(asked["allowed_hosts"]),
        model_folders=tuple(map(Path, asked["model_folders"])),
        quotas=Quotas(**asked.get("quotas", {})),
        webhook_hosts=tuple(asked.get("webhook_hosts", ())),
        is_mlflow_shared=asked.get("is_mlflow_shared", False),
    )
    run(socket.socket(fileno=os.dup(asked["socket"])), options, needs_tokens=asked["needs_tokens"])


if __name__ == "__main__":
    main()
