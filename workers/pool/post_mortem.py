"""What a dead worker leaves behind: its last words, its memory peak, and whether the kernel killed for memory.

Ray tells that an actor's process has gone, not why. So each worker keeps a witness file in the cache folder, which
the controller can read: a fatal signal's stack is written there by faulthandler, the memory peak by a thread. A process
that ends without a word was killed from outside.
"""

import faulthandler
import os
import re
import socket
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread

from space.budget import format_bytes

_FOLDER = "witness"
_EVERY_SECONDS = 1.0
_NUM_LINES, _NUM_CHARACTERS = 8, 1500
_KEPT_SECONDS = 7 * 86400
_SIGNALS = {
    "Segmentation fault": "SIGSEGV",
    "Aborted": "SIGABRT",
    "Bus error": "SIGBUS",
    "Floating point exception": "SIGFPE",
    "Illegal instruction": "SIGILL",
}
_NODE_DIED = ("its node has died", "node was terminated", "raylet died")
_PROCESS = re.compile(r"^\s*pid: (\d+)$", re.MULTILINE)
_files: list[object] = []  # faulthandler writes to a file that must stay open


def bear_witness(cache_folder: str) -> None:
    """Keep a witness file of this process from now on; a folder that cannot be written is not worth a failure."""
    with suppress(OSError):
        folder = Path(cache_folder) / _FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        _forget_old(folder)
        name = f"{socket.gethostname()}-{os.getpid()}"
        words = (folder / f"{name}.words").open("w", encoding="utf-8")
        _files.append(words)
        faulthandler.enable(words, all_threads=False)
        Thread(target=_note_peaks, args=(folder / f"{name}.peak",), name="tightfit-witness", daemon=True).start()


def evidence(cache_folder: str, error: Exception) -> str:
    """Return what is known of the death that Ray reports, as a sentence or two and the last words."""
    found = _PROCESS.search(str(error))
    if found is None:
        lines = str(error).strip().splitlines() or [repr(error)]
        return lines[-1] if "creation task" in lines[0] else lines[0]  # the first one says no more than that it failed
    process_id, folder = found.group(1), Path(cache_folder) / _FOLDER
    words = _newest(folder, f"*-{process_id}.words")
    peak = _newest(folder, f"*-{process_id}.peak").split()
    told = [_cause(words), f"process {process_id}"]
    if len(peak) == 2:  # noqa: PLR2004 (bytes and kills)
        told.append(f"memory peak {format_bytes(int(peak[0]))}")
        if _memory_kills() > int(peak[1]):
            told.append("the kernel killed for memory since")
    last = _stack(words) or _tail(_ray_log(process_id))
    return ", ".join(told) + (f"; its last words:\n{last}" if last else "; it left no words")


def is_node_death(error: Exception) -> bool:
    """Tell whether a worker ended with its whole node, which its task cannot be blamed for."""
    return any(sign in str(error) for sign in _NODE_DIED)


def _cause(words: str) -> str:
    signal = next((name for sign, name in _SIGNALS.items() if sign in words), None)
    return f"ended by {signal}" if signal else "killed from outside (SIGKILL) or ended without a word"


def _stack(words: str) -> str:
    """Return the innermost frames of a stack that faulthandler wrote."""
    lines = [line for line in words.splitlines() if line and not line.startswith("Extension modules")]
    return "\n".join(lines[:_NUM_LINES])[:_NUM_CHARACTERS]


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-_NUM_LINES:])[-_NUM_CHARACTERS:]


def _newest(folder: Path, pattern: str) -> str:
    """Return the content of the newest file of a pattern; a process id may have been used before."""
    try:
        newest = max(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
        return newest.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


def _ray_log(process_id: str) -> str:
    """Return what a worker of this machine wrote to stderr, without Ray's own first line."""
    text = _newest(Path("/tmp/ray/session_latest/logs"), f"worker-*-{process_id}.err")  # noqa: S108 (Ray's folder)
    return "\n".join(line for line in text.splitlines() if not line.startswith(":"))


def _note_peaks(path: Path) -> None:
    kills, last = _memory_kills(), 0
    while True:
        with suppress(OSError, ValueError):
            peak = _peak_bytes()
            if peak > 1.02 * last:
                path.write_text(f"{peak} {kills}\n", encoding="ascii")
                last = peak
        time.sleep(_EVERY_SECONDS)


def _peak_bytes() -> int:
    """Return the most memory that this process ever had, as Linux counts it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def _memory_kills() -> int:
    """Return how often the kernel of this machine has killed for memory since it started."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _forget_old(folder: Path) -> None:
    limit = time.time() - _KEPT_SECONDS
    for path in folder.iterdir():
        with suppress(OSError):
            if path.stat().st_mtime < limit:
                path.unlink()
