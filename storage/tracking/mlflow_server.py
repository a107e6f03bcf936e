"""A local MLflow server as a child process that outlives us: one per home, on 127.0.0.1, found again by its record.

Start-up takes 6-20 s, so `start_server(..., wait=False)` returns at once and `wait_until_ready` waits later. Artifacts
are plain files that the server reads in place (`--no-serve-artifacts`): runs written straight to the SQLite file and
runs written through the server are then readable both ways, artifacts included (verified with MLflow 3.17.2). Two
processes that create the database at once break it (MLflow does not lock there), so whoever may be first creates it
under a lock of ours: the child before it becomes the server, and `mlflow_runs` before it writes to the file.
"""

import fcntl
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread

from space.errors import StoreError, UsageError
from storage.private import make_private, make_private_file
from storage.sql.sqlite_urls import sqlite_url
from storage.tracking.contract import check_mlflow

DEFAULT_PORT = 5000
HOST = "127.0.0.1"
READY_SECONDS = 120.0
STOP_SECONDS = 10.0
_MOST_PORTS = 20
_ENVIRONMENT = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ENABLE_REMOTE_ASSISTANT": "false",
    "PYTHONSAFEPATH": "1",
}

_CREATE_THEN_SERVE = """
import fcntl, os, sys
with open(sys.argv[1], "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    from mlflow import MlflowClient
    MlflowClient(sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "mlflow", *sys.argv[3:]])
"""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """Where a server answers, and its process (also its process group)."""

    url: str
    pid: int


def tracking_database(home: Path) -> str:
    """Return the URI of the SQLite file that the server of this home shows."""
    return sqlite_url(_folder(home) / "mlflow.db")


def start_server(home: Path, port: int | None = None, *, wait: bool = True) -> RunningServer:
    """Return the server of this home, starting it where none runs.

    Args:
        home: tightfit's folder; the server lives in `home/mlflow`.
        port: None takes 5000, or a free port where that is taken.
        wait: return once it answers (up to 120 s) rather than at once.

    Raises:
        UsageError: the asked port is taken.
        StoreError: MLflow is not installed; the server died or does not answer, with the end of its log.

    """
    check_mlflow()
    folder = _folder(home)
    make_private(folder)
    with _locked(folder):
        server = _recorded(folder)
        if server is None:
            with closing(_claim(port)) as claim:
                server = _spawn(folder, claim)
    return wait_until_ready(home) if wait else server


def find_server(home: Path) -> RunningServer | None:
    """Return the server of this home if it runs and answers."""
    server = _recorded(_folder(home))
    return server if server is not None and _answers(server) else None


def wait_until_ready(home: Path, timeout_seconds: float = READY_SECONDS) -> RunningServer:
    """Return the started server once it answers.

    Raises:
        StoreError: it died or stayed silent; the message carries the end of its log.

    """
    folder, deadline = _folder(home), time.monotonic() + timeout_seconds
    while (server := _recorded(folder)) is not None:
        if _answers(server):
            return server
        if time.monotonic() >= deadline:
            waited = f"after {timeout_seconds:.0f} s"
            raise StoreError(f"MLflow does not answer at {server.url} {waited}.{_log_tail(folder)}")
        time.sleep(0.2)
    raise StoreError(f"The MLflow server of {home} is not running.{_log_tail(folder)}")


def stop_server(home: Path) -> bool:
    """Stop the server of this home; return whether one was running. Waits up to 10 s before it insists."""
    folder = _folder(home)
    server = _recorded(folder)
    if server is not None:
        _signal(server.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while _group_lives(server.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        if _group_lives(server.pid):
            _signal(server.pid, signal.SIGKILL)
    (folder / "server.json").unlink(missing_ok=True)
    return server is not None


def _folder(home: Path) -> Path:
    return home.resolve() / "mlflow"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _spawn(folder: Path, claim: socket.socket) -> RunningServer:
    """Start a server on a claimed port; the claim is its own from then on, and ends with it."""
    port = int(claim.getsockname()[1])
    database, artifacts = folder / "mlflow.db", folder / "artifacts"
    artifacts.mkdir(exist_ok=True)
    make_private_file(database)
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")  # stays with the file; MLflow writes 25 % faster
    command = [sys.executable, "-c", _CREATE_THEN_SERVE, f"{database}.lock", sqlite_url(database)]
    command += ["server", "--backend-store-uri", sqlite_url(database)]
    command += ["--no-serve-artifacts", "--default-artifact-root", artifacts.as_uri()]
    command += ["--host", HOST, "--port", str(port), "--workers", "1", "--uvicorn-opts", "--log-level warning"]
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 (our own interpreter, no shell)
            command,
            cwd=folder,
            env=os.environ | _ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[claim.fileno()],
            start_new_session=True,
        )
    Thread(target=process.wait, name="tightfit-mlflow-reaper", daemon=True).start()
    server = RunningServer(f"http://{HOST}:{port}", process.pid)
    record = folder / "server.json.new"
    record.write_text(json.dumps(asdict(server)))
    record.replace(folder / "server.json")
    return server


def _recorded(folder: Path) -> RunningServer | None:
    try:
        value = json.loads((folder / "server.json").read_text())
        server = RunningServer(str(value["url"]), int(value["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return server if _is_ours(server, folder) else None


def _is_ours(server: RunningServer, folder: Path) -> bool:
    if not _group_lives(server.pid):
        return False
    for _ in range(20):
        try:
            command = Path(f"/proc/{server.pid}/cmdline").read_bytes()
        except OSError:  # no /proc on this system: only the server itself can tell
            return _answers(server)
        if command:
            return sqlite_url(folder / "mlflow.db").encode() in command
        time.sleep(0.05)  # empty for a moment while the program is being loaded
    return False


def _answers(server: RunningServer) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{server.url}/health", timeout=2) as response:
            return bool(response.status == 200)  # noqa: PLR2004 (HTTP OK)
    except (OSError, urllib.error.URLError):
        return False


def _claim(port: int | None) -> socket.socket:
    """Return the claim on a free port: the asked one, or 5000, or any.

    A server binds its port seconds after it was chosen. Of those that start meanwhile only one has the claim: the UDP
    port of the same number, which nobody listens to.

    Raises:
        UsageError: the asked port is taken.
        StoreError: no port is free.

    """
    if port is not None:
        claim = _claim_of(port)
        if claim is None:
            raise UsageError(f"Port {port} is taken; choose another one, or none to let tightfit find a free one.")
        return claim
    for tried in (DEFAULT_PORT, *[0] * _MOST_PORTS):
        claim = _claim_of(tried or _any_free())
        if claim is not None:
            return claim
    raise StoreError(f"{_MOST_PORTS} ports of {HOST} were taken before MLflow had one; start it again.")


def _claim_of(port: int) -> socket.socket | None:
    claim = socket.socket(type=socket.SOCK_DGRAM)
    try:
        claim.bind((HOST, port))
    except OSError:
        claim.close()
        return None
    if _is_free(port):  # looked at under the claim
        return claim
    claim.close()
    return None


def _any_free() -> int:
    with closing(socket.socket()) as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def _group_lives(pid: int) -> bool:
    try:
        os.killpg(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return False
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _log_tail(folder: Path) -> str:
    try:
        lines = (folder / "server.log").read_text(errors="replace").splitlines()[-5:]
    except OSError:
        return ""
    return f" Its log {folder / 'server.log'} ends:\n" + "\n".join(lines)
