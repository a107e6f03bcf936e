"""The process that Ray's driver library lives in: `ray_executor` starts it, asks it, and outlives it.

That library ends or hangs with its process where a raylet or the head of a cluster dies, which must not take a
controller along. So this process looks after Ray itself, from a thread: as soon as what it stands on is gone, it says
so and ends, and a private Ray, whose processes share its fate, ends with it. It also ends with its controller.
"""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any, NoReturn

from space.errors import TightfitError
from workers.pool.cluster import RAY_ERRORS, Sign, connect, count_gpus, disconnect, signs_of_life
from workers.pool.driver_process import ANSWER, ERROR, LOST, end_session
from workers.pool.executor import Handle, Outcome
from workers.pool.ray_pool import RayPool
from workers.tasks import Task, Workspace

_LOOK_SECONDS = 0.5
_DOUBT_SECONDS = 1.5  # a process that is killed takes a moment to be gone
_LAST_WORD_SECONDS = 5.0


class Driver:
    """What this process can be asked."""

    def __init__(self) -> None:
        """Have no workers yet."""
        self._pool: RayPool | None = None
        self.signs: Sequence[Sign] = ()

    def is_there(self) -> bool:
        """Tell that this process has come up."""
        return True

    def connect(self, num_workers: int) -> None:
        """Find or start Ray."""
        connect(num_workers)
        self.signs = signs_of_life()

    def count_gpus(self) -> float:
        """Return the GPUs that Ray has."""
        return count_gpus()

    def open(self, workspace: Workspace, num_workers: int) -> dict[str, str]:
        """Start the workers; return where each node of a cluster keeps levels."""
        self._pool = RayPool(workspace, num_workers, doubt=self.doubt)
        return dict(self._pool.places)

    def submit_all(self, tasks: Sequence[Task], lane: int) -> Sequence[Handle]:
        """Queue tasks."""
        return self._opened.submit_all(tasks, lane)

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Return what ended."""
        return self._opened.wait(timeout_seconds)

    def process_ids(self) -> list[int]:
        """Return the workers' process ids."""
        return self._opened.process_ids()

    def doubt(self) -> None:
        """Hold an error of Ray back until it is certain that Ray lives: no worker is to blame for the end of it all."""
        deadline = time.monotonic() + _DOUBT_SECONDS
        while time.monotonic() < deadline or any(sign.wrong() for sign in self.signs):
            time.sleep(_LOOK_SECONDS)  # the watch ends this process

    def close(self) -> None:
        """Stop the workers, and a private Ray."""
        if self._pool is not None:
            self._pool.close()
        disconnect()

    @property
    def _opened(self) -> RayPool:
        assert self._pool is not None  # noqa: S101 (the executor opens first)
        return self._pool


class Watch:
    """Ends this process where the controller or Ray is gone; whatever else its main thread is stuck in."""

    def __init__(self, driver: Driver, connection: Connection) -> None:
        """Look from now on."""
        self._driver, self._connection, self._lock = driver, connection, Lock()
        self._controller = os.getppid()
        Thread(target=self._look, name="tightfit-watch", daemon=True).start()

    def answer(self, kind: str, value: Any) -> None:
        """Send an answer, whole: the watch may have a last word at any time."""
        with self._lock:
            self._connection.send((kind, value))

    def _look(self) -> None:
        since: dict[str, float] = {}
        while os.getppid() == self._controller:
            for sign in self._driver.signs:
                wrong = sign.wrong()
                if wrong is None:
                    since.pop(sign.name, None)
                elif time.monotonic() - since.setdefault(sign.name, time.monotonic()) >= sign.patience_seconds:
                    self._say_last(wrong)
            time.sleep(_LOOK_SECONDS)
        _leave()

    def _say_last(self, wrong: str) -> None:
        if self._lock.acquire(timeout=_LAST_WORD_SECONDS):
            self._connection.send((LOST, wrong))
        _leave()


def _leave() -> NoReturn:
    """End this process at once, and what is left of a Ray that it started."""
    if os.getsid(0) == os.getpid():
        end_session(os.getpid())
    os._exit(1)


def serve(connection: Connection) -> None:
    """Answer until the controller hangs up."""
    driver = Driver()
    watch = Watch(driver, connection)
    try:
        while True:
            verb, arguments = connection.recv()
            watch.answer(*_answered(driver, verb, arguments))
    except (EOFError, OSError):
        driver.close()


def _answered(driver: Driver, verb: str, arguments: Sequence[Any]) -> tuple[str, Any]:
    try:
        return ANSWER, getattr(driver, verb)(*arguments)
    except TightfitError as error:
        return ERROR, error
    except Exception as error:  # noqa: BLE001 (Ray starts with plain ones)
        driver.doubt()
        if verb != "connect" and not isinstance(error, RAY_ERRORS):
            return ERROR, RuntimeError("".join(traceback.format_exception(error)))  # a mistake of ours
        first = (str(error).strip() or repr(error)).splitlines()[0]
        return LOST, f"{type(error).__name__}: {first[:300]}"


if __name__ == "__main__":
    os.set_inheritable(int(sys.argv[1]), False)  # what Ray starts would keep it open
    serve(Connection(int(sys.argv[1])))
