"""`tightfit serve` as a process: its children live, come back, and are gone with it."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event

import pytest

from tightfit.processes.supervision import Child, supervise

_LONG = 120.0


def until(true: Callable[[], object], seconds: float = _LONG) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def of_home(home: Path) -> dict[int, str]:
    """Return the live processes whose command line or environment names a home."""
    found = {}
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            number = int(folder.name)
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if command and str(home).encode() in command.encode() + (folder / "environ").read_bytes():
                found[number] = command
    return found


@contextmanager
def serving(home: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Serve a home; give the process and the address of its service."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tightfit", "serve", "--port", "0", "--json", *options],
        env=environment | {"TIGHTFIT_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = ""
        while not told.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.communicate()
            told += line
        yield process, json.loads(told)["page"]
    finally:
        process.kill()
        process.communicate()


def answers(url: str) -> bool:
    """Tell whether a service is there."""
    with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{url}/healthz", timeout=5) as found:  # noqa: S310
        return bool(found.status == 200)
    return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left(tmp_path: Path, end: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the service, its controller and MLflow; a child that is killed before comes back."""
    home = tmp_path / "home"
    with serving(home) as (process, url):
        (first,) = (number for number, command in of_home(home).items() if "http_server" in command)
        os.kill(first, signal.SIGKILL)
        until(lambda: [n for n, c in of_home(home).items() if "http_server" in c and n != first])
        until(lambda: answers(url))
        commands = " ".join(of_home(home).values())
        assert "tightfit work" in commands
        assert "mlflow" in commands
        process.send_signal(end)
        _, told = process.communicate(timeout=_LONG)
        assert process.returncode == 0
        assert "API ended with -9; it starts again in 0.5 s" in told
        assert told.endswith("Stopped.\n")
    until(lambda: not of_home(home), 20)


def test_children_end_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves no service and no controller; MLflow is found again by the next one of the home."""
    home = tmp_path / "home"
    with serving(home) as (process, _):
        process.kill()
        process.wait()
        until(lambda: not any("tethered" in command for command in of_home(home).values()), 30)
    with serving(home) as (process, _):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_LONG)
    until(lambda: not of_home(home), 20)


def test_what_cannot_be_served(tmp_path: Path) -> None:
    """An address without tokens, a folder that is not there; nothing is made."""
    for options, words in (
        (("--host", "0.0.0.0"), r"needs one to begin with\. `tightfit token add NAME --scope admin --home"),  # noqa: S104 (refused)
        (("--models", "/no/such"), r"no such folder"),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "tightfit", "serve", *options, "--home", str(tmp_path / "home")],
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONG,
        )
        assert done.returncode == 2
        assert re.search(words, done.stderr)
        assert not (tmp_path / "home").exists()


def test_pauses_grow(tmp_path: Path) -> None:
    """A child that ends at once is started again after 0.5, 1, 2 seconds, and what it says is in its log."""
    told: list[str] = []
    ended = Event()
    log = tmp_path / "logs" / "child.log"
    child = Child("child", ["tests.no_such_module"], log)

    def look() -> None:
        if len(told) == 3:
            ended.set()

    supervise([child], ended, told.append, look)
    assert [re.findall(r"again in (\S+) s", text) for text in told] == [["0.5"], ["1.0"], ["2.0"]]
    assert log.read_text().count("No module named") == 3
