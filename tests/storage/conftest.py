"""Fixtures of the storage tests."""

import shutil
from pathlib import Path

import pytest

from space.spec import make_spec
from storage.records import Job
from storage.store import Store

pytest.register_assert_rewrite(
    *(
        f"tests.storage.store_contract{part}"
        for part in ("", "_events", "_jobs", "_leases", "_people", "_tasks", "_trials")
    )
)


@pytest.fixture
def job(store: Store) -> Job:
    """Give job "one" of the test's own store, QUEUED."""
    return store.create_job("one", make_spec(model="org/model", budget="60%"))


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a migrated MLflow database without jobs: making one takes seconds, copying it does not."""
    mlflow = pytest.importorskip("mlflow")
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(tmp_path: Path, empty_mlflow: Path) -> str:
    """Give the URI of an empty MLflow database of this test's own."""
    return f"sqlite:///{shutil.copy(empty_mlflow, tmp_path)}"
