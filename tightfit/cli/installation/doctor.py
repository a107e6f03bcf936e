"""What is wrong with an installation, and how to mend it."""

import os
import shutil
import socket
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from space.budget import format_bytes
from space.errors import TightfitError
from space.parsing.addresses import without_password
from storage.leases.lease import is_gone
from storage.open_store import check_version, open_store
from storage.private import mode_for_others
from storage.records import JobState
from storage.sql.sqlite_urls import sqlite_path
from storage.tracking.mlflow_server import find_server
from tightfit.config import Settings, load_settings
from workers.devices import device_here
from workers.models.model_files import BUNDLED_FOLDER

_PACKAGES = ("torch", "transformers", "optuna", "ray", "mlflow", "sqlalchemy", "compressed-tensors")
_NEAR = {"torch": ">=2.11,<2.15", "transformers": ">=5,<6"}  # runs; tested less than the pinned one
_LOW_DISK_BYTES = 2 * 2**30
_CONNECT_SECONDS = 3.0
_LISTENS = "0A"  # in the system's table of sockets
_PORTS = {5000: "MLflow", 6379: "Ray's head", 8265: "Ray's dashboard", 10001: "Ray's client server"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: whether it is right, what was seen, and what to do if not."""

    name: str
    ok: bool
    seen: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)


def examine(home: Path | None) -> list[Finding]:
    """Look at everything a job needs."""
    settings = load_settings(home)
    found = [*_packages(), _bundled_model(), _home(settings), *_database(settings), _workers(), _gpu()]
    return [*found, _mlflow(settings), *open_ports()]


def show_findings(findings: list[Finding]) -> None:
    """Print one line per finding."""
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.name}: {finding.seen}")
        if not finding.ok and finding.mend:
            print(f"     {finding.mend}")
    bad = sum(not finding.ok for finding in findings)
    print(f"{bad} of {len(findings)} findings to mend." if bad else "All is well.")


def _packages() -> list[Finding]:
    wanted = _requirements()
    return [_package(name, wanted.get(name)) for name in _PACKAGES]


def _package(name: str, wanted: Requirement | None) -> Finding:
    try:
        seen = version(name)
    except PackageNotFoundError:
        if name == "mlflow":
            return Finding(name, ok=True, seen="not installed; jobs run without it, and are not shown in it")
        return Finding(name, ok=False, seen="not installed", mend="Install tightfit again in its own venv.")
    if wanted is None or wanted.specifier.contains(seen, prereleases=True):
        return Finding(name, ok=True, seen=seen)
    if SpecifierSet(_NEAR.get(name, "<0")).contains(seen, prereleases=True):
        return Finding(name, ok=True, seen=f"{seen}, near the {wanted.specifier} that tightfit is tested with")
    return Finding(name, ok=False, seen=seen, mend=f"tightfit needs {wanted}: install it again in its own venv.")


def _requirements() -> dict[str, Requirement]:
    """Return what the installed tightfit asks for, or its source where it runs from there."""
    try:
        texts = requires("tightfit") or ()
    except PackageNotFoundError:
        source = Path(__file__).resolve().parents[2] / "pyproject.toml"
        texts = tomllib.loads(source.read_text(encoding="utf-8"))["project"]["dependencies"] if source.exists() else ()
    return {r.name: r for r in map(Requirement, texts) if r.marker is None}


def _bundled_model() -> Finding:
    weights = BUNDLED_FOLDER / "model.safetensors"
    mend = "Install tightfit again: its package data is missing."
    return Finding("bundled model", weights.exists(), str(BUNDLED_FOLDER), mend)


def _home(settings: Settings) -> Finding:
    existing = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    ok = os.access(existing, os.W_OK) and free > _LOW_DISK_BYTES
    seen = f"{settings.home}, {format_bytes(free)} free"
    if existing == settings.home and (mode := mode_for_others(existing)):
        seen += f"; others may enter it (mode {mode}): `chmod 700` it unless it is shared"
    return Finding("home", ok, seen, "Name a writable folder with 2 GiB free: TIGHTFIT_HOME or --home.")


def _database(settings: Settings) -> list[Finding]:
    path = sqlite_path(settings.database_url)
    if path is not None and not os.path.lexists(path):
        return [Finding("database", ok=True, seen=f"{path}, made by the first job")]
    try:
        place = check_version(settings.database_url)
        store = open_store(settings.database_url)
        jobs = store.list_jobs()
        store.close()
    except TightfitError as error:
        return [Finding("database", ok=False, seen=str(error), mend="Set TIGHTFIT_DATABASE_URL, or mend the database.")]
    states = ", ".join(f"{count} {state}" for state, count in sorted(Counter(j.state for j in jobs).items()))
    left = [job.job_id for job in jobs if job.state is JobState.RUNNING and is_gone(job.holder)]
    mend = "Run `tightfit work`, or `tightfit resume` each."
    seen = (
        f"{len(left)} run without a controller: {', '.join(left[:3])}"
        if left
        else "none was left behind by its controller"
    )
    return [
        Finding("database", ok=True, seen=f"{place}; jobs: {states or 'none'}"),
        Finding("jobs", not left, seen, mend),
    ]


def _workers() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    if not address:
        return Finding("workers", ok=True, seen=f"a private Ray for each job; {len(os.sched_getaffinity(0))} CPUs here")
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal() and not _answers(host, int(port)):
        mend = "Start the cluster (`ray start --head`), or unset RAY_ADDRESS for a local Ray."
        return Finding(
            "workers", ok=False, seen=f"no Ray answers at RAY_ADDRESS={without_password(address)}", mend=mend
        )
    token = os.environ.get("RAY_AUTH_MODE") == "token" or (Path.home() / ".ray" / "auth_token").exists()
    mend = "Anybody who reaches such a cluster runs code on it: set RAY_AUTH_MODE=token everywhere (docs/cluster.md)."
    return Finding(
        "workers", token, f"Ray at {without_password(address)}, {'with' if token else 'without'} a token", mend
    )


def _gpu() -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("GPU", ok=True, seen="none; jobs run on the CPUs")
    device = device_here()
    return Finding("GPU", device != "cpu", f"torch uses {device}", "Install torch with CUDA, or mend the driver.")


def _mlflow(settings: Settings) -> Finding:
    uri = settings.mlflow_uri
    if uri is None:
        server = find_server(settings.home)
        return Finding(
            "MLflow", ok=True, seen=f"running at {server.url}" if server else "not running; `tightfit ui` starts it"
        )
    try:
        address = urlsplit(uri)
        port = address.port or (443 if address.scheme == "https" else 80)
    except ValueError:  # its words may hold a part of a password
        mend = "Write http://host:5000, or unset it; jobs go on without."
        return Finding("MLflow", ok=False, seen=f"MLFLOW_TRACKING_URI={without_password(uri)} is no address", mend=mend)
    if address.scheme.startswith("http") and not _answers(address.hostname or "", port):
        mend = "Start the server, or unset it; jobs go on without, and `tightfit mlflow sync JOB` shows them later."
        return Finding(
            "MLflow", ok=False, seen=f"nobody answers at MLFLOW_TRACKING_URI={without_password(uri)}", mend=mend
        )
    return Finding("MLflow", ok=True, seen=f"MLFLOW_TRACKING_URI={without_password(uri)}")


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            return True
    except (OSError, OverflowError, UnicodeError):  # also a port or a name that there cannot be
        return False


def open_ports(tables: Sequence[Path] = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))) -> list[Finding]:
    """Return a finding for each port of ours that others can reach, by the system's tables of sockets."""
    lines = [line.split() for path in tables if path.exists() for line in path.read_text().splitlines()[1:]]
    listening = {parts[1].rpartition(":")[::2] for parts in lines if parts[3] == _LISTENS}
    reachable = sorted({int(port, 16) for address, port in listening if not address.strip("0")} & _PORTS.keys())
    mend = "Bind it to 127.0.0.1 or close it in the firewall: whoever reaches it may run code here."
    return [Finding(f"port {p}", ok=False, seen=f"{_PORTS[p]} listens to everybody", mend=mend) for p in reachable]
