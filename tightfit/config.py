"""Where tightfit keeps things, from the environment."""

import getpass
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from space.errors import OutputError, UsageError
from storage.leases.lease import LEASE_SECONDS
from storage.private import make_private
from storage.sql.sqlite_urls import sqlite_url
from workers.bounded_files import user_path

ANOTHER_HOME = "Make the home writable, or name another one with --home."
_MAX_LEASE_SECONDS = 3600
_EXPORTS = "exports"


@dataclass(frozen=True, slots=True)
class Settings:
    """Places and addresses.

    Attributes:
        home: TIGHTFIT_HOME, default ~/.tightfit; holds the database, the cache, logs and MLflow's files.
        database_url: TIGHTFIT_DATABASE_URL, default a SQLite file in the home.
        mlflow_uri: MLFLOW_TRACKING_URI, or None: the home's own MLflow, served by `tightfit ui`.
        lease_seconds: TIGHTFIT_LEASE_SECONDS, default 30: a controller that is silent for so long may be replaced; the
            same for all controllers of a store.

    """

    home: Path
    database_url: str
    mlflow_uri: str | None
    lease_seconds: float = LEASE_SECONDS

    @property
    def cache_folder(self) -> Path:
        """Return where levels and calibration are kept; all of it can be rebuilt."""
        return self.home / "cache"

    @property
    def uploads_folder(self) -> Path:
        """Return where models lie that were sent to the service."""
        return self.home / "uploads"

    def new_export_folder(self, job_id: str) -> Path:
        """Return where an export that names no folder is written; there is nothing yet."""
        return self.home / _EXPORTS / f"{job_id}-{secrets.token_hex(4)}"

    def holds_export(self, folder: Path) -> bool:
        """Tell whether a folder is one of those."""
        return folder.parent == self.home / _EXPORTS

    def make_home(self) -> None:
        """Make the home, for its user alone, where it is not there. Raises OutputError."""
        try:
            make_private(self.home)
        except OSError as error:
            raise OutputError(f"{self.home}: cannot be made ({error.strerror}). {ANOTHER_HOME}") from error

    @property
    def home_option(self) -> str:
        """Return what a command typed elsewhere needs to find this home: ` --home DIR`, or nothing.

        The usual home needs nothing, and a database elsewhere is named by the environment alone.
        """
        is_usual = self.home == load_settings(environment={}).home
        has_own_database = self.database_url == load_settings(self.home, {}).database_url
        return "" if is_usual or not has_own_database else f" --home {shlex.quote(str(self.home))}"

    def log_path(self, job_id: str) -> Path:
        """Return the log file of a detached job."""
        return self.home / "logs" / f"{job_id}.log"


def load_settings(home: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment; `home` overrides TIGHTFIT_HOME."""
    env = os.environ if environment is None else environment
    folder = user_path(home or env.get("TIGHTFIT_HOME") or "~/.tightfit").absolute()
    database = env.get("TIGHTFIT_DATABASE_URL") if home is None else None
    database = database or sqlite_url(folder / "tightfit.db")
    return Settings(folder, database, env.get("MLFLOW_TRACKING_URI"), _lease_seconds(env.get("TIGHTFIT_LEASE_SECONDS")))


def login_name() -> str | None:
    """Return who is at work here, as the system knows them; None where it does not."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return None


def _lease_seconds(text: str | None) -> float:
    try:
        seconds = float(text or LEASE_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 1 <= seconds <= _MAX_LEASE_SECONDS:
        raise UsageError(f"TIGHTFIT_LEASE_SECONDS={text} is not a number of seconds from 1 to {_MAX_LEASE_SECONDS}.")
    return seconds
