"""Where tightfit keeps things, from the environment."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Places and addresses.

    Attributes:
        home: TIGHTFIT_HOME, default ~/.tightfit; holds the database, the cache, logs and MLflow's files.
        database_url: TIGHTFIT_DATABASE_URL, default a SQLite file in the home.
        mlflow_uri: MLFLOW_TRACKING_URI, or None: the home's own MLflow, served by `tightfit ui`.

    """

    home: Path
    database_url: str
    mlflow_uri: str | None

    @property
    def cache_folder(self) -> Path:
        """Return where levels and calibration are kept; all of it can be rebuilt."""
        return self.home / "cache"

    def log_path(self, job_id: str) -> Path:
        """Return the log file of a detached job."""
        return self.home / "logs" / f"{job_id}.log"


def load_settings(home: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment; `home` overrides TIGHTFIT_HOME."""
    env = os.environ if environment is None else environment
    folder = (home or Path(env.get("TIGHTFIT_HOME") or "~/.tightfit")).expanduser().absolute()
    database = env.get("TIGHTFIT_DATABASE_URL") if home is None else None
    return Settings(folder, database or f"sqlite:///{folder / 'tightfit.db'}", env.get("MLFLOW_TRACKING_URI"))
