"""A controller's hold on the process of Ray's driver: started, asked with a limit of time, and ended with certainty."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from socket import socketpair
from typing import Any

ANSWER, ERROR, LOST = "answer", "error", "lost"
"""kinds of what comes back: a value, an error of ours to raise, a reason why this process is of no use any more"""
_CLOSE_SECONDS = 20.0
_BEGIN = "import runpy, sys; sys.path[:] = {path!r}; runpy.run_module('workers.pool.ray_driver', run_name='__main__')"


def end_session(leader: int) -> None:
    """Kill whatever is left of a session but this process: parts of Ray that notice the end of others late.

    Ray's processes stay in the session of the driver that started them. Where the system does not list processes in
    /proc, they end by themselves, after a minute at most.
    """
    for place in Path("/proc").glob("[0-9]*"):
        pid = int(place.name)
        with suppress(OSError):  # it has gone, or is somebody else's
            if pid != os.getpid() and os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


class DriverLostError(Exception):
    """The process, or the Ray that it stands on, is gone or does not answer; the message says what is known."""


class DriverProcess:
    """One process, which knows no other than its controller."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Start it, with some more environment."""
        ours, theirs = socketpair()
        with theirs, ours:
            self._connection = Connection(os.dup(ours.fileno()))
            self._words = tempfile.TemporaryFile()  # noqa: SIM115 (as long as the process)
            self._process = subprocess.Popen(  # noqa: S603 (our own program)
                [sys.executable, "-c", _BEGIN.format(path=sys.path), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=self._words,
                stderr=self._words,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the controller's business
                env={**os.environ, **environment},
            )

    def ask(self, limit_seconds: float, verb: str, *arguments: Any) -> Any:
        """Return the answer to a question.

        Raises:
            DriverLostError: there will be none.
            TightfitError: what was asked for cannot be.

        """
        try:
            with suppress(BrokenPipeError):  # its last word may still be there
                self._connection.send((verb, arguments))
            if not self._connection.poll(limit_seconds):
                raise DriverLostError(f"no answer for {limit_seconds:.0f} s")
            kind, value = self._connection.recv()
        except (EOFError, OSError) as error:
            raise DriverLostError(self._last_words()) from error
        if kind == LOST:
            raise DriverLostError(value)
        if kind == ERROR:
            raise value
        return value

    def close(self) -> None:
        """Let it stop what it started, then end it."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_CLOSE_SECONDS)
        self.end()

    def end(self) -> None:
        """End it at once, and a Ray of its own."""
        self._process.kill()
        self._process.wait()
        end_session(self._process.pid)
        self._connection.close()
        self._words.close()

    def _last_words(self) -> str:
        """Return how the process ended, with the last line that it or Ray wrote."""
        self._process.kill()
        self._process.wait()
        self._words.seek(0)
        lines = self._words.read().decode(errors="replace").strip().splitlines()
        code = self._process.returncode
        told = f"its driver ended by signal {-code}" if code < 0 else f"its driver ended with exit code {code}"
        self.end()
        return f"{told}: {lines[-1].strip()[:300]}" if lines else told
