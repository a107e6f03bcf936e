"""What is wrong with an installation, and how to mend it."""

import os
import shutil
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from space.budget import format_bytes
from space.errors import TightfitError
from storage.mlflow_server import find_server
from storage.open import open_store
from tightfit.config import Settings, load_settings
from workers.models.files import BUNDLED_FOLDER

_PACKAGES = ("torch", "transformers", "optuna", "ray", "mlflow", "sqlalchemy", "compressed-tensors")
_LOW_DISK_BYTES = 2 * 2**30


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
    return [*_packages(), _bundled_model(), _home(settings), _database(settings), _workers(), _mlflow(settings)]


def show_findings(findings: list[Finding]) -> None:
    """Print one line per finding."""
    for finding in findings:
        print(f"{'ok  ' if finding.ok else 'BAD '} {finding.name}: {finding.seen}")
        if not finding.ok and finding.mend:
            print(f"     {finding.mend}")


def _packages() -> list[Finding]:
    found = []
    for name in _PACKAGES:
        try:
            found.append(Finding(name, ok=True, seen=version(name)))
        except PackageNotFoundError:
            found.append(Finding(name, ok=False, seen="not installed", mend="Install tightfit again in its own venv."))
    return found


def _bundled_model() -> Finding:
    weights = BUNDLED_FOLDER / "model.safetensors"
    mend = "Install tightfit again: its package data is missing."
    return Finding("bundled model", weights.exists(), str(BUNDLED_FOLDER), mend)


def _home(settings: Settings) -> Finding:
    existing = next(p for p in (settings.home, *settings.home.parents) if p.exists())
    free = shutil.disk_usage(existing).free
    ok = os.access(existing, os.W_OK) and free > _LOW_DISK_BYTES
    seen = f"{settings.home}, {format_bytes(free)} free"
    return Finding("home", ok, seen, "Name a writable folder with 2 GiB free: TIGHTFIT_HOME or --home.")


def _database(settings: Settings) -> Finding:
    scheme = settings.database_url.partition(":")[0]
    try:
        store = open_store(settings.database_url)
        count = len(store.list_jobs())
        store.close()
    except TightfitError as error:
        return Finding("database", ok=False, seen=str(error), mend="Set TIGHTFIT_DATABASE_URL, or mend the database.")
    return Finding("database", ok=True, seen=f"{scheme}, {count} jobs")


def _workers() -> Finding:
    address = os.environ.get("RAY_ADDRESS")
    cpus = len(os.sched_getaffinity(0))
    return Finding("workers", ok=True, seen=f"Ray at {address}" if address else f"local Ray, {cpus} CPUs")


def _mlflow(settings: Settings) -> Finding:
    if settings.mlflow_uri:
        return Finding("MLflow", ok=True, seen=f"MLFLOW_TRACKING_URI={settings.mlflow_uri}")
    server = find_server(settings.home)
    return Finding("MLflow", ok=True, seen=f"running at {server.url}" if server else "started by `tightfit ui`")
