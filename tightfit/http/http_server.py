"""Serving the application: `python -m tightfit.http.http_server`, a child process of `tightfit serve`."""

import json
import os
import socket
import sys
from pathlib import Path

import uvicorn

from tightfit.config import load_settings, login_name
from tightfit.http.api import ApiOptions, create_app
from tightfit.http.callers import OpenGate
from tightfit.service import Service

_KEEP_ALIVE_SECONDS = 30
_END_SECONDS = 5


def run(listening: socket.socket, options: ApiOptions) -> None:
    """Serve the home of the environment on a socket that listens already, until SIGTERM."""
    app = create_app(Service(load_settings()), OpenGate(login_name()), options)
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
    )
    run(socket.socket(fileno=os.dup(asked["socket"])), options)


if __name__ == "__main__":
    main()
