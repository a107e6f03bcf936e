"""What `tightfit doctor` sees, and how it says to mend it."""

import json
import shutil
import socket
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from storage.open_store import open_store
from storage.sql.sqlite_urls import sqlite_url
from tests.cli.conftest import Cli
from tests.cli.test_upkeep import GOLDEN, gone
from tests.storage.values import spec
from tightfit.cli.installation.doctor import open_ports

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Take away what this machine may have."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("tightfit.cli.installation.doctor.open_ports", list)


def finding(cli: Cli, name: str) -> dict[str, Any]:
    """Return one finding, and check that the exit code tells whether all is well."""
    done = cli("doctor", "--json")
    found: dict[str, dict[str, Any]] = {f["name"]: f for f in done.json}
    assert done.exit_code == (0 if all(f["ok"] for f in found.values()) else 4)
    return found[name]


def closed_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def test_new_home_is_well(cli: Cli, home: Path) -> None:
    """Looking makes nothing: neither a home nor a database."""
    assert finding(cli, "database")["ok"]
    assert not home.exists()
    told = cli("doctor").out.splitlines()
    assert any(line.startswith("ok   database: ") for line in told)
    assert told[-1] == "All is well." or told[-1].endswith(" findings to mend.")


@pytest.mark.parametrize(
    "uri",
    [
        "http://host:99999",
        "http://host:port",
        "http://[::1",
        "https://host:-1",
        "http://user:se/cret@host:5000",
        f"http://{'a' * 300}:5000",
        "http://\u2100/",
        "http://127.0.0.1:0",
        "http://",
    ],
)
def test_tracking_address_that_is_none(cli: Cli, monkeypatch: pytest.MonkeyPatch, uri: str) -> None:
    """A finding like any other, and no part of a password."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    seen = finding(cli, "MLflow")
    assert not seen["ok"]
    assert "MLFLOW_TRACKING_URI" in seen["seen"]
    assert "unset it" in seen["mend"]
    assert "cret" not in json.dumps(seen).replace("secret", "")


@pytest.mark.parametrize("address", ["127.0.0.1:99999999", f"ray://{'x' * 100}:6379", "127.0.0.1:0"])
def test_cluster_address_that_is_none(cli: Cli, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """Nobody answers there."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert "no Ray answers at RAY_ADDRESS" in finding(cli, "workers")["seen"]


@pytest.mark.parametrize("name", ["what?", "50%", "100%41?x=%3F", "a#b&c", "q?mode=ro", "caf\u00e9 \N{GRINNING FACE}"])
def test_home_of_any_name(cli: Cli, tmp_path: Path, name: str) -> None:
    """Its database lies in it, nothing beside it, and every command finds it there."""
    named = tmp_path / "homes" / name
    none = cli("status", "--home", str(named), "--json")
    assert (none.exit_code, none.out, named.parent.exists()) == (2, "", False)  # who only looks makes none
    open_store(sqlite_url(named / "tightfit.db")).create_job("j1", spec())
    assert [job["job"] for job in cli("status", "--home", str(named), "--json").json] == ["j1"]
    assert str(named / "tightfit.db") in cli("db", "check", "--home", str(named)).out
    assert f"{named / 'tightfit.db'}; jobs: 1 QUEUED" in cli("doctor", "--home", str(named)).out
    assert [path.name for path in (tmp_path / "homes").iterdir()] == [name]


def test_older_database_is_named_and_left(cli: Cli, home: Path) -> None:
    """Doctor upgrades nothing."""
    home.mkdir()
    shutil.copy(GOLDEN / "0002.db", home / "tightfit.db")
    seen = finding(cli, "database")
    assert not seen["ok"]
    assert "its tables are at 0002" in seen["seen"]
    assert "its tables are at 0002" in finding(cli, "database")["seen"]


def test_jobs_without_a_controller_are_named(cli: Cli, home: Path) -> None:
    """With what to do."""
    store = open_store(f"sqlite:///{home}/tightfit.db")
    store.create_job("one", spec())
    assert finding(cli, "jobs")["ok"]
    assert store.claim_job(gone(), "one")
    seen = finding(cli, "jobs")
    assert (seen["ok"], seen["seen"]) == (False, "1 run without a controller: one")
    assert "tightfit resume" in seen["mend"]
    store.close()


def test_servers_that_do_not_answer_are_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray and MLflow, where the environment names them."""
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{closed_port()}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{closed_port()}")
    assert "no Ray answers at RAY_ADDRESS=127.0.0.1:" in finding(cli, "workers")["seen"]
    assert "nobody answers at MLFLOW_TRACKING_URI=http" in finding(cli, "MLflow")["seen"]


@pytest.mark.parametrize(("mode", "told"), [(None, "without a token"), ("token", "with a token")])
def test_cluster_without_a_token_is_told(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, mode: str | None, told: str
) -> None:
    """A cluster that answers is only well where not everybody may use it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        if mode:
            monkeypatch.setenv("RAY_AUTH_MODE", mode)
        seen = finding(cli, "workers")
    assert (seen["ok"], told in seen["seen"]) == (mode is not None, True)


def test_wrong_version_is_named(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed, and what is needed."""
    monkeypatch.setattr("tightfit.cli.installation.doctor.requires", lambda _: ["optuna==1.0", "ray>=1"])
    assert not finding(cli, "optuna")["ok"]
    assert "tightfit needs optuna==1.0" in finding(cli, "optuna")["mend"]
    assert finding(cli, "ray")["ok"]


@pytest.mark.parametrize(
    ("name", "seen", "ok"),
    [
        ("torch", "2.13.0+cpu", True),
        ("torch", "2.11.0+cu130", True),
        ("torch", "2.14.1", True),
        ("torch", "2.10.0", False),
        ("torch", "2.15.0.dev20270101", False),
        ("transformers", "5.17.0", True),
        ("transformers", "6.0.0", False),
        ("transformers", "4.57.1", False),
        ("ray", "2.59.0", False),
    ],
)
def test_versions_near_the_pinned_ones_are_taken(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, seen: str, *, ok: bool
) -> None:
    """Of torch and transformers, which machines with GPUs bring; it is said what was tested."""
    monkeypatch.setattr(
        "tightfit.cli.installation.doctor.version", lambda asked: seen if asked == name else version(asked)
    )
    found = finding(cli, name)
    assert (found["ok"], found["seen"].partition(",")[0]) == (ok, seen)
    pinned = next(text for text in _pinned() if text.startswith(f"{name}=="))
    assert ("is tested with" in found["seen"]) == (ok and seen.partition("+")[0] != pinned.partition("==")[2])
    assert found["mend"] == ("" if ok else f"tightfit needs {pinned}: install it again in its own venv.")


def _pinned() -> list[str]:
    found: list[str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return found


def test_ports_that_everybody_reaches_are_named(tmp_path: Path) -> None:
    """Listening on all addresses, of either family; not on 127.0.0.1, and not connections."""
    table, table6 = tmp_path / "tcp", tmp_path / "tcp6"
    head = "  sl  local_address rem_address   st tx_queue rx_queue\n"
    rows = ["0: 00000000:2049 00000000:0000 0A 0:0", "1: 0100007F:1388 00000000:0000 0A 0:0"]
    rows += ["2: 00000000:18EB 0A0A0A0A:1234 01 0:0", "3: 00000000:0016 00000000:0000 0A 0:0"]
    table.write_text(head + "\n".join(rows) + "\n")
    table6.write_text(head + f"0: {'0' * 32}:2711 {'0' * 32}:0000 0A 0:0\n")
    found = open_ports([table, table6, tmp_path / "none"])
    assert [(f.name, f.seen) for f in found] == [
        ("port 8265", "Ray's dashboard listens to everybody"),
        ("port 10001", "Ray's client server listens to everybody"),
    ]


def test_passwords_are_not_shown(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither MLflow's, answered or not, nor one in Ray's address."""
    monkeypatch.setenv("RAY_ADDRESS", f"ray://me:hidden@127.0.0.1:{closed_port()}")
    for uri in (f"http://me:hidden@127.0.0.1:{closed_port()}", "databricks://hidden@host", "sqlite:///x.db?key=hidden"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        done = cli("doctor")
        assert "MLFLOW_TRACKING_URI=" in done.out
        assert "RAY_ADDRESS=ray://127.0.0.1" in done.out
        assert "hidden" not in done.out + done.err


def test_home_that_others_may_enter_is_told(cli: Cli, home: Path) -> None:
    """And not changed: it may be shared on purpose."""
    home.mkdir()
    home.chmod(0o750)
    assert "others may enter it (mode 750): `chmod 700` it" in finding(cli, "home")["seen"]
    home.chmod(0o700)
    assert "others may" not in finding(cli, "home")["seen"]
