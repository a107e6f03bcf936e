"""`tightfit serve`: the REST service, controllers and MLflow of a home, kept running until Ctrl-C."""

import json
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Annotated

import typer

from space.budget import parse_bytes
from space.errors import UsageError
from tightfit.cli.base import AsJson, Home, Workers, open_service, print_json
from tightfit.cli.hints import command
from tightfit.config import Settings
from tightfit.processes.supervision import Child, supervise

DEFAULT_PORT = 8642
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MLFLOW_LOOK_SECONDS = 5.0
_BACKLOG = 1024


def serve(
    host: Annotated[str, typer.Option(help="Address to listen at; any but loopback needs tokens.")] = _LOOPBACK[0],
    port: Annotated[int | None, typer.Option(help=f"Port [default: {DEFAULT_PORT}, or a free one].")] = None,
    models: Annotated[
        list[Path] | None, typer.Option(help="A folder whose models and texts may be used; may be given repeatedly.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name of this machine, as browsers address it.")
    ] = None,
    tokens: Annotated[bool, typer.Option("--tokens", help="Demand tokens on loopback too.")] = False,
    max_jobs: Annotated[int | None, typer.Option(min=1, help="Jobs that a user may have at a time.")] = None,
    max_workers: Annotated[
        int | None, typer.Option(min=1, help="Workers, or GPUs, that a user's jobs may ask for together.")
    ] = None,
    max_minutes: Annotated[int | None, typer.Option(min=1, help="Minutes a day that a user's jobs may search.")] = None,
    max_disk: Annotated[
        str | None, typer.Option(help="What a user's uploads and exports may take, such as 50GiB.")
    ] = None,
    webhook_host: Annotated[
        list[str] | None, typer.Option(help="A host of a private address that webhooks may have.")
    ] = None,
    share_mlflow: Annotated[
        bool, typer.Option("--share-mlflow", help="Let all who may read see MLflow, which shows everybody's jobs.")
    ] = False,
    controllers: Annotated[int, typer.Option(min=0, help="Jobs that run at a time.")] = 1,
    workers: Workers = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Serve the REST service, run queued jobs and show MLflow, until Ctrl-C or SIGTERM."""
    folders = [_model_folder(path) for path in models or ()]
    needs_tokens = tokens or host not in _LOOPBACK
    settings = _checked_settings(home, host, needs_tokens=needs_tokens)
    with closing(_listening(host, port)) as listening:
        url = f"http://{_in_url(host)}:{listening.getsockname()[1]}"
        options = {
            "socket": listening.fileno(),
            "host": host,
            "allowed_hosts": allow_host or [],
            "model_folders": [str(folder) for folder in folders],
            "needs_tokens": needs_tokens,
            "quotas": {
                "jobs": max_jobs,
                "workers": max_workers,
                "minutes": max_minutes,
                "disk_bytes": None if max_disk is None else parse_bytes(max_disk),
            },
            "webhook_hosts": webhook_host or [],
            "is_mlflow_shared": share_mlflow,
        }
        children = _children(settings, options, controllers, workers)
        _run(settings, url, children, as_json=as_json)


def _checked_settings(home: Path | None, host: str, *, needs_tokens: bool) -> Settings:
    """Return the settings of a home that can be served. Raises UsageError where it needs tokens and has none."""
    service = open_service(home, create=not needs_tokens, needed=False)
    if needs_tokens and not service.store.list_tokens():
        raise UsageError(
            f"--host {host}: a service that demands tokens, as any off loopback does, needs one to begin with. "
            f"`{command('token add NAME --scope admin', home)}` makes one."
        )
    service.settings.make_home()
    return service.settings


def _model_folder(path: Path) -> Path:
    from workers.bounded_files import user_path

    found = user_path(path).absolute()
    if not found.is_dir():
        raise UsageError(f"--models {path}: no such folder.")
    return found


def _children(settings: Settings, options: dict[str, object], controllers: int, workers: int | None) -> list[Child]:
    """Return the processes of a home that are to run always."""
    logs = settings.home / "logs"
    here = {"TIGHTFIT_HOME": str(settings.home), "TIGHTFIT_DATABASE_URL": settings.database_url, "TIGHTFIT_URL": ""}
    work = ["tightfit", "work", *(["--workers", str(workers)] if workers else [])]
    number = int(str(options["socket"]))
    api = Child("API", ["tightfit.http.http_server", json.dumps(options)], logs / "api.log", [number], here)
    names = ["controller" if controllers == 1 else f"controller-{number}" for number in range(controllers)]
    return [api, *(Child(name, work, logs / f"{name}.log", environment=here) for name in names)]


def _run(settings: Settings, url: str, children: list[Child], *, as_json: bool) -> None:
    """Keep children running until somebody asks for the end."""
    mlflow = _Mlflow(settings)
    with _ending() as ended:
        told = _Announced(url, mlflow, as_json=as_json)

        def look() -> None:
            mlflow.look()
            told.look()

        try:
            supervise(children, ended, _tell, look)
        finally:
            mlflow.stop()
    _tell("Stopped.")


@dataclass
class _Mlflow:
    """The MLflow of a home: one that another server shows, one that runs already, or one of ours."""

    settings: Settings
    url: str | None = None
    answers: bool = False
    _ours: bool = False
    _next_look: float = 0.0
    _pause: float = _MLFLOW_LOOK_SECONDS

    def look(self) -> None:
        """Start it where it does not run, and see whether it answers."""
        from storage.tracking.contract import has_mlflow
        from storage.tracking.mlflow_server import find_server, start_server

        if time.monotonic() < self._next_look or not has_mlflow():
            return
        uri = self.settings.mlflow_uri
        if uri is not None:
            self.url, self.answers, self._next_look = uri, True, float("inf")
            return
        found = find_server(self.settings.home)
        self.answers = found is not None
        if found is None:
            before, found = self.url, start_server(self.settings.home, wait=False)
            self._ours = True
            if before is not None and found.url != before:
                _tell(f"MLflow ended and starts again at {found.url}")
        self.url, self._next_look = found.url, time.monotonic() + (self._pause if self.answers else 1.0)

    def stop(self) -> None:
        """Stop it where it was started here."""
        from storage.tracking.mlflow_server import stop_server

        if self._ours:
            stop_server(self.settings.home)


@dataclass
class _Announced:
    """Says where everything is, as soon as it answers."""

    url: str
    mlflow: _Mlflow
    as_json: bool
    _said: set[str] = field(default_factory=set)

    def look(self) -> None:
        """Say what is new."""
        if "api" not in self._said and _answers(self.url):
            self._said.add("api")
            self._say_all()
        if self.mlflow.answers and "mlflow" not in self._said:
            self._said.add("mlflow")
            _tell(f"MLflow answers at {self.mlflow.url}")

    def _say_all(self) -> None:
        if self.as_json:
            print_json({"page": self.url, "api": f"{self.url}/v1", "mlflow": self.mlflow.url})
        else:
            starting = "" if self.mlflow.answers else "  (starting)"
            print(f"page    {self.url}\nAPI     {self.url}/v1  (openapi.json beside it)")
            print(f"MLflow  {self.mlflow.url or 'is not installed'}{starting if self.mlflow.url else ''}")
        sys.stdout.flush()
        _tell("Ctrl-C stops everything; running jobs are queued again.")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _ending() -> Iterator[Event]:
    """Give an event that Ctrl-C and SIGTERM set."""
    ended = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda *_: ended.set())
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), opener.open(f"{url}/healthz", timeout=2) as response:
        return bool(response.status == 200)  # noqa: PLR2004 (HTTP OK)
    return False


def _listening(host: str, port: int | None) -> socket.socket:
    """Return a socket that listens. Raises UsageError."""
    for number in (port,) if port is not None else (DEFAULT_PORT, 0):
        try:
            found = socket.create_server((host, number), family=_family(host), backlog=_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            found.set_inheritable(True)
            return found
    raise UsageError(f"--host {host} --port {port}: cannot listen there ({reason}). Give another one, or none.")


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host
