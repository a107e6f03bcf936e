"""MLflow is left out: jobs, exports and reports are what they always are, and whoever asks for MLflow is told."""

import sys
from collections.abc import Callable
from functools import partialmethod
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest

from storage.tracking.contract import has_mlflow
from tests.cli.conftest import Cli
from tests.end_to_end.jobs import small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.service import Service


@pytest.fixture(autouse=True)
def without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it not be found, and let every import of it fail."""
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr(
        "storage.tracking.contract.find_spec", lambda name: None if name == "mlflow" else find_spec(name)
    )
    assert not has_mlflow()


@pytest.mark.usefixtures("reload_here")
def test_the_demo_runs_and_whoever_asks_is_told(
    cli: Cli,
    home: Path,
    tiny: Callable[[TinyKind], Path],
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing waits for MLflow or warns of it; what needs it says how to get it, and makes nothing."""
    monkeypatch.setattr("tightfit.cli.installation.demo.demo_spec", lambda: small_spec(tiny("tied"), text_file))
    monkeypatch.setattr(Service, "run", partialmethod(Service.run, inline=True))
    done = cli("demo")
    assert done.exit_code == 0, done.err
    assert done.out.splitlines()[-1].startswith("Report: ")
    assert "mlflow" not in (done.out + done.err + caplog.text).lower()
    (job,) = cli("status", "--json").json
    assert (job["state"], len(list((home / "exports" / job["job"]).iterdir())) > 3) == ("DONE", True)
    for command in (("mlflow", "sync", job["job"]), ("ui", job["job"])):
        told = cli(*command)
        assert (told.exit_code, told.out) == (4, "")
        assert "MLflow is not installed" in told.err
        assert "pip install mlflow" in told.err
        assert len(told.err.splitlines()) == 1
    assert not (home / "mlflow").exists()


def test_doctor_takes_it_for_a_choice(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is off is no fault."""

    def without(name: str) -> str:
        if name == "mlflow":
            raise PackageNotFoundError
        return version(name)

    monkeypatch.setattr("tightfit.cli.installation.doctor.version", without)
    found = {f["name"]: f for f in cli("doctor", "--json").json}["mlflow"]
    assert (found["ok"], found["seen"].partition(";")[0]) == (True, "not installed")
