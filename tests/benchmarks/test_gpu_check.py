"""The check of a machine with a GPU: what goes there, that it runs, and that nothing keeps it from its end."""

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from zipfile import ZipFile, ZipInfo

import pytest

from benchmarks.gpu import __main__ as check
from tools.gpu_kit import BROUGHT, needed_packages, unpack, write_archive

ROOT = Path(__file__).resolve().parents[2]
HERE = ".".join(platform.python_version_tuple()[:2])


def test_everything_that_is_lacking_is_packed() -> None:
    """Ray, Optuna, SQL and pytest with all that they need; neither what the machine brings nor what jobs do without."""
    found = needed_packages("3.12")
    wanted = {"ray", "optuna", "sqlalchemy", "alembic", "mako", "pydantic-core", "typer", "rich", "click", "pytest"}
    assert wanted <= found.keys()
    assert not found.keys() & (BROUGHT | {"mlflow", "flask", "psycopg", "nvidia-cublas", "triton"})
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").lower().replace("_", "-")
    assert all(f"{name}=={version}" in constraints for name, version in found.items())


def test_an_archive_is_what_python_imports(tmp_path: Path) -> None:
    """Programs stay programs, libraries stand where they are looked for, and what no job uses is left out."""
    wheel = tmp_path / "ray-1.0-py3-none-any.whl"
    with ZipFile(wheel, "w") as file:
        for name, mode in (("ray/__init__.py", 0o644), ("ray/core/raylet", 0o755), ("ray/jars/a.jar", 0o644)):
            member = ZipInfo(name)
            member.external_attr = mode << 16
            file.writestr(member, name)
        for name in (
            "ray/rllib/x.py",
            "ray/dashboard/client/x.js",
            "ray/dashboard/agent.py",
            "ray-1.0.dist-info/METADATA",
        ):
            file.writestr(name, name)
        for name in ("ray-1.0.data/purelib/beside.py", "ray-1.0.data/scripts/run", "ray-1.0.data/headers/ray.h"):
            file.writestr(name, name)
    about = {"python": HERE, "machine": platform.machine()}
    kits = [tmp_path / "one" / "kit.tar.xz", tmp_path / "two" / "kit.tar.xz"]
    assert all(write_archive([wheel], about, kit) == kit.stat().st_size for kit in kits)
    assert kits[0].read_bytes() == kits[1].read_bytes()
    site = unpack(kits[0], tmp_path / "there")
    files = {str(path.relative_to(site)) for path in site.rglob("*") if path.is_file()}
    kept = {"ray/__init__.py", "ray/core/raylet", "ray/dashboard/agent.py", "ray-1.0.dist-info/METADATA", "beside.py"}
    assert files == kept
    assert os.access(site / "ray/core/raylet", os.X_OK)
    assert not os.access(site / "beside.py", os.X_OK)


@pytest.mark.parametrize("about", [{"python": "3.9"}, {"machine": "sparc"}, {"python": f"{HERE}1"}])
def test_an_archive_for_another_python_is_refused(tmp_path: Path, about: dict[str, str]) -> None:
    """Before anything is unpacked, with what to do; so is one that is not there."""
    kit = tmp_path / "kit.tar.xz"
    write_archive([], {"python": HERE, "machine": platform.machine()} | about, kit)
    with pytest.raises(SystemExit, match=r"is for Python .*--python"):
        unpack(kit, tmp_path / "there")
    assert not (tmp_path / "there").exists()
    with pytest.raises(SystemExit, match=r"gpu_kit\.py pack"):
        unpack(tmp_path / "none.tar.xz", tmp_path / "there")


_KEEPS = "import json, sys; open(sys.argv[6], 'w').write(json.dumps({'figures': [['speed', 7, 'x']], 'failures': []}));"
_SLEEPS = _KEEPS + (
    "import subprocess, time; print(subprocess.Popen(['sleep', '300']).pid, flush=True); sys.stdout.flush();"
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
)
_CODES = {"whole_job": _SLEEPS, "this_machine": _KEEPS, "large_model": "raise RuntimeError('no such thing')"}
_CODES |= {"packed_speed": "import os; os._exit(7)", "marked_tests": _KEEPS}


def test_a_step_that_fails_or_hangs_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is stopped with all that it started, what it measured is kept, and the next one runs; the status says so."""
    monkeypatch.setattr(check, "program", lambda name: [sys.executable, "-c", _CODES[name]])
    monkeypatch.setattr(check, "_GRACE_SECONDS", 0.5)
    monkeypatch.setattr(check, "STEPS", dict.fromkeys(_CODES, 14) | {"whole_job": 4})
    monkeypatch.setattr(sys, "argv", ["check", "--device", "cpu", "--seconds", "60", "--out", str(tmp_path)])
    started = time.monotonic()
    assert check.main() == 1
    assert time.monotonic() - started < 60
    steps: dict[str, Any] = {s["name"]: s for s in json.loads((tmp_path / "gpu.json").read_text())["steps"]}
    states = {name: step["state"] for name, step in steps.items()}
    failed = dict.fromkeys(("large_model", "packed_speed"), "failed")
    assert states == {"this_machine": "passed", "whole_job": "stopped", "marked_tests": "passed"} | failed
    assert steps["whole_job"]["figures"] == [["speed", 7, "x"]]
    assert steps["large_model"]["failures"] == ["ended with 1: RuntimeError: no such thing"]
    assert steps["packed_speed"]["failures"] == ["ended with 7: it said nothing"]
    sleeper = int((tmp_path / "whole_job.log").read_text().split()[0])
    status = Path(f"/proc/{sleeper}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()
    table = capsys.readouterr().out
    assert all(f"| {name} | {state} |" in table for name, state in states.items())
    assert "| whole_job | speed | 7 x |" in table


def test_a_step_that_does_not_exist_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With those there are."""
    monkeypatch.setattr(sys, "argv", ["check", "--only", "demo"])
    with pytest.raises(SystemExit):
        check.main()
    assert "demo is no step; there are this_machine, whole_job" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_it_runs_here_on_a_cpu(tmp_path: Path) -> None:
    """All steps on smaller sizes, with what is installed here; every one of them passes, and gives its figures."""
    command = [
        "tools/gpu_check.sh",
        "--kit",
        "none",
        "--python",
        sys.executable,
        "--device",
        "cpu",
        "--seconds",
        "1500",
    ]
    done = subprocess.run(
        [*command, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=1550, check=False
    )
    steps = {s["name"]: s for s in json.loads((tmp_path / "gpu.json").read_text())["steps"]}
    assert {name: (s["state"], s["failures"]) for name, s in steps.items()} == dict.fromkeys(
        check.STEPS, ("passed", [])
    )
    assert done.returncode == 0, done.stderr
    found = {f"{name}: {figure}": value for name, s in steps.items() for figure, value, _ in s["figures"]}
    assert found["whole_job: computed on"] == "cpu"
    assert found["whole_job: KL of the export"] == pytest.approx(found["whole_job: held-out KL"], rel=1e-3)
    assert found["whole_job: bytes"] <= found["whole_job: budget"]
    assert found["large_model: KL block by block, largest difference"] == 0.0
    for figure in ("statistics: tokens", "a trial, tokens", "integer, 4 bits: down_proj of block 0: rate"):
        assert found[f"large_model: {figure}"] > 0
    assert 0 < found["packed_speed: integer, 4 bits: bytes over the dense model's"] < 0.5
    assert found["packed_speed: integer, 4 bits: decoding, over the dense model's"] > 0
    assert (found["marked_tests: tests passed"], found["marked_tests: tests failed"]) == (1, 0)
    assert found["marked_tests: tests skipped"] > 10
