"""Serving the application: `python -m tightfit.http.http_server`, a child process of `tightfit serve`."""

import json
import os
import socket
import sys
from pathlib import Path

import uvicorn

from tightfit.config import load_settings, login_name
from tightfit.http.api import ApiOptions, create_app
from tightfit.http.callers import OpenGate, TokenGate
from tightfit.service import Service

_KEEP_ALIVE_SECONDS = 30
_END_SECONDS = 5


def run(listening: socket.socket, options: ApiOptions, *, needs_tokens: bool) -> None:
    """Serve the home of the environment on a socket that listens already, until SIGTERM."""
    service = Service(load_settings())
    gate = TokenGate(service.store) if needs_tokens else OpenGate(login_name())
    app = create_app(service, gate, options)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    uvicorn.Server(config).run(sockets=[listening])


def main() -> None:
    """Serve what the command line says: one JSON object with the socket's number and the options."""
    asked = json.loads(sys.argv[1])
    options = ApiOptions(
        host=asked["host"],
        allowed_hosts=tuple(asked["allowed_hosts"]),
        model_folders=tuple(map(Path, asked["model_folders"])),
        max_jobs=asked["max_jobs"],
    )
    run(socket.socket(fileno=os.dup(asked["socket"])), options, needs_tokens=asked["needs_tokens"])


if __name__ == "__main__":
    main()
