"""What tightfit makes for itself can be read by its user alone; what was there keeps its rights."""

from pathlib import Path

import pytest

from space.errors import OutputError
from storage.open_store import open_store
from storage.private import make_private, mode_for_others
from storage.tracking.mlflow_runs import _client
from storage.tracking.mlflow_server import tracking_database
from tightfit.config import Settings


def modes(folder: Path) -> dict[str, str]:
    """Return the rights of a folder and of all in it, by their names."""
    return {path.name: f"{path.stat().st_mode & 0o777:o}" for path in (folder, *sorted(folder.rglob("*")))}


def test_new_home_and_its_database_are_private(tmp_path: Path) -> None:
    """Also the folder above, which was missing too, and SQLite's files beside the database while it is open."""
    home = tmp_path / "above" / "home"
    store = open_store(f"sqlite:///{home}/tightfit.db")
    store.list_jobs()
    found = modes(tmp_path / "above")
    store.close()
    assert found.pop("above") == found.pop("home") == "700"
    assert "tightfit.db-wal" in found
    assert set(found.values()) == {"600"}


def test_home_beside_a_database_elsewhere_is_private(tmp_path: Path) -> None:
    """It is made by the first job then."""
    Settings(tmp_path / "home", "postgresql://host/jobs", None).make_home()
    assert modes(tmp_path / "home") == {"home": "700"}


def test_database_of_the_homes_mlflow_is_private(tmp_path: Path) -> None:
    """It holds the models' names and the plans."""
    _client(tracking_database(tmp_path / "home"))
    found = modes(tmp_path / "home")
    assert (found["mlflow"], found["mlflow.db"]) == ("700", "600")


def test_what_was_there_keeps_its_rights(tmp_path: Path) -> None:
    """A home may be shared on purpose."""
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    (home / "tightfit.db").touch(mode=0o640)
    open_store(f"sqlite:///{home}/tightfit.db").close()
    make_private(home)
    assert modes(home) == {"home": "755", "tightfit.db": "640"}
    assert (mode_for_others(home), mode_for_others(home / "tightfit.db")) == ("755", "640")
    home.chmod(0o700)
    assert mode_for_others(home) is None


def test_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """One sentence names it."""
    (tmp_path / "home").touch()
    with pytest.raises(OutputError, match=r"home: cannot be made \(File exists\)\. .*--home"):
        Settings(tmp_path / "home", "memory:", None).make_home()
