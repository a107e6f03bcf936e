"""A process that has imported everything and gives each input a child of its own: fresh, bounded and cheap.

Run as `python -m tests.fuzz.nursery MODEL...`: one JSON request a line on stdin, one JSON verdict a line on stdout.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from storage.sql.sqlite_urls import sqlite_url

MAX_SECONDS = 60.0
MAX_BYTES = 2 * 10**9
_LOOK_SECONDS = 0.02
_KILLED = 9


def main(models: Sequence[str]) -> None:
    """Serve requests until stdin ends."""
    for model in models:
        _warm_up(model)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _warm_up(model: str) -> None:
    """Have everything imported that commands import late, so that children need not."""
    from space.spec import make_spec
    from tightfit.config import Settings
    from tightfit.service import Service

    import_module("tightfit.cli.installation.doctor")
    import_module("tightfit.exporting")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        text = home / "text.txt"
        text.write_text("All that is gold does not glitter. " * 2000)
        service = Service(Settings(home, sqlite_url(home / "tightfit.db"), None))
        spec = make_spec(model=model, budget="60%", calibration=str(text))
        service.dry_run(spec).to_json()
        service.store.close()


def _run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one command in a child; return how it ended."""
    folder = Path(request["folder"])
    began = time.monotonic()
    child = os.fork()
    if not child:
        _become(request, folder)
    status, peak = 0, 0
    is_over = ""
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            peak = max(peak, usage.ru_maxrss * 1024)
            break
        peak = max(peak, _resident(child))
        is_over = "memory" if peak > MAX_BYTES else "time" if time.monotonic() - began > MAX_SECONDS else ""
        if is_over:
            os.kill(child, _KILLED)
            _, status, _ = os.wait4(child, 0)
            break
        time.sleep(_LOOK_SECONDS)
    return {
        "exit_code": os.waitstatus_to_exitcode(status),
        "over": is_over,
        "seconds": time.monotonic() - began,
        "peak_bytes": peak,
        "out": (folder / "stdout").read_text(errors="replace"),
        "err": (folder / "stderr").read_text(errors="replace"),
    }


def _resident(child: int) -> int:
    try:
        return int(Path(f"/proc/{child}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _command_line() -> None:
    from tightfit.cli.app import main as command_line

    command_line()


def _become(request: dict[str, Any], folder: Path) -> NoReturn:
    """Be the command line, in the child."""
    code = 1
    try:
        os.chdir(folder)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(name, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(request["environment"])
        sys.argv = ["tightfit", *request["arguments"]]
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", errors="backslashreplace")
        _command_line()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except BaseException:  # noqa: BLE001 (a traceback is what is looked for)
        import traceback

        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
