"""Starts the processes of a training, hears them, and ends all of them with the first that fails."""

import json
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from space.errors import JobFailedError, SpecError
from workers.recover.sharded.assignment import Assignment
from workers.recover.training_state import Judged

_BEGIN = (
    "import runpy, sys; sys.path[:] = {path!r}; runpy.run_module('workers.recover.sharded.assignment', "
    "run_name='__main__')"
)
_POLL_SECONDS = 0.2
_END_SECONDS = 10.0
_LAST_WORDS = 2000
Hear = Callable[[Judged, int, float], None]


def train_together(
    assignment: Assignment,
    size: int,
    look: Callable[[], None] = lambda: None,
    hear: Hear = lambda *_: None,
) -> list[int]:
    """Train in some processes of this machine; what comes of it is the state at the assignment's path.

    Args:
        assignment: what they do; where they meet is decided here.
        size: how many processes.
        look: called about five times a second; what it raises ends them, and the training can be gone on with.
        hear: sees each look at the selection text.

    Returns:
        the peak memory of each process, in bytes.

    Raises:
        SpecError: they would need a GPU each.
        JobFailedError: a process failed; the message has its last words.

    """
    if assignment.workspace.device != "cpu":
        raise SpecError("--processes: they train together on CPUs only; leave the option out on a GPU.")
    with tempfile.TemporaryDirectory(prefix="tightfit-crew-") as folder:
        told = replace(assignment, meeting=Path(folder) / "meeting")
        words = [(Path(folder) / f"words-{rank}").open("w+b") for rank in range(size)]
        processes = [_started(error) for error in words]
        said: queue.Queue[dict[str, Any]] = queue.Queue()
        listeners = [_listener(process, said) for process in processes]
        try:
            for rank, process in enumerate(processes):
                assert process.stdin is not None  # noqa: S101 (it is a pipe)
                process.stdin.write(pickle.dumps((told, rank, size)))
                process.stdin.close()
            return _heard(processes, words, listeners, said, look, hear)
        finally:
            for process in processes:
                process.kill()
            for process in processes:
                process.wait(_END_SECONDS)
            for listener in listeners:
                listener.join(_END_SECONDS)
            for error in words:
                error.close()


def _started(error: IO[bytes]) -> "subprocess.Popen[bytes]":
    local = {"GLOO_SOCKET_IFNAME": "lo0" if sys.platform == "darwin" else "lo"}
    return subprocess.Popen(  # noqa: S603 (our own program)
        [sys.executable, "-c", _BEGIN.format(path=sys.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=error,
        start_new_session=True,  # Ctrl-C is its parent's business
        env={**os.environ, **local},
    )


def _listener(process: "subprocess.Popen[bytes]", said: "queue.Queue[dict[str, Any]]") -> threading.Thread:
    def listen() -> None:
        assert process.stdout is not None  # noqa: S101 (it is a pipe)
        with process.stdout as lines:
            for line in lines:
                if line.startswith(b"{"):
                    said.put(json.loads(line))

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    return thread


def _heard(
    processes: "list[subprocess.Popen[bytes]]",
    words: Sequence[IO[bytes]],
    listeners: list[threading.Thread],
    said: "queue.Queue[dict[str, Any]]",
    look: Callable[[], None],
    hear: Hear,
) -> list[int]:
    peaks: list[int] = []
    while True:
        alive = any(listener.is_alive() for listener in listeners)
        try:
            found = said.get(timeout=_POLL_SECONDS if alive else 0.01)
        except queue.Empty:
            if not alive:
                break
            look()
            _check(processes, words)
            continue
        if "peak_bytes" in found:
            peaks.append(found["peak_bytes"])
        else:
            hear(Judged(**found["judged"]), found["steps"], found["seconds_left"])
    for process in processes:
        process.wait(_END_SECONDS)
    _check(processes, words)
    return peaks


def _check(processes: "list[subprocess.Popen[bytes]]", words: Sequence[IO[bytes]]) -> None:
    """Raise JobFailedError where a process failed."""
    for process, error in zip(processes, words, strict=True):
        if process.poll():
            error.seek(max(0, error.seek(0, os.SEEK_END) - _LAST_WORDS))
            told = error.read().decode(errors="replace").strip()
            raise JobFailedError(f"A process of {len(processes)} that train ended with {process.returncode}: {told}")
