"""Requests judged in a process apart: reading a model takes torch, memory and time, and a hostile one ends only that.

The process begins with the first request and ends when none came for a while; one that takes too long is ended.
"""

from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from space.errors import ModelError, TightfitError
from storage.records import Job
from tightfit.config import Settings

if TYPE_CHECKING:
    from space.spec import JobSpec
    from tightfit.estimate import DryRun

LIMIT_SECONDS = 120.0
IDLE_SECONDS = 300.0
_END_SECONDS = 5.0


class Judge(Protocol):
    """Says what becomes of a request, for who asks in a thread of their own."""

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost; see `Service.dry_run`."""

    def submit(self, spec: "JobSpec", user: str | None, *, anew: bool = False) -> Job:
        """Return the job of a request; see `Service.submit`. `anew` makes one where there is one already."""

    def close(self) -> None:
        """Be asked nothing any more."""


class ProcessApart:
    """A process that begins when it is asked, and is ended."""

    def __init__(self, name: str, work: Callable[..., None], *values: Any) -> None:
        """Start nothing yet; `work` gets a connection, then the values."""
        self._name, self._work, self._values = name, work, values
        self._process: BaseProcess | None = None
        self._questions: Connection | None = None

    def connected(self) -> Connection:
        """Return the connection to the process, which runs from now on."""
        if self._process is None or self._questions is None or not self._process.is_alive():
            self.end()
            context = get_context("spawn")
            self._questions, theirs = context.Pipe()
            self._process = context.Process(
                target=self._work, args=(theirs, *self._values), name=self._name, daemon=True
            )
            self._process.start()
            theirs.close()
        return self._questions

    def end(self) -> None:
        """End the process, where there is one."""
        if self._process is not None:
            self._process.terminate()
            self._process.join(_END_SECONDS)
            self._process.kill()
            self._process.join(_END_SECONDS)
        if self._questions is not None:
            self._questions.close()
        self._process = self._questions = None


class Apart:
    """Asks one question at a time of a process of its own."""

    def __init__(
        self, settings: Settings, limit_seconds: float = LIMIT_SECONDS, idle_seconds: float = IDLE_SECONDS
    ) -> None:
        """Start nothing yet.

        Args:
            settings: the home.
            limit_seconds: the most that one question may take.
            idle_seconds: after which the process ends.

        """
        self._limit, self._lock = limit_seconds, Lock()
        self._process = ProcessApart("tightfit-apart", _answer, settings, idle_seconds)

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost; see `Service.dry_run`."""
        found: DryRun = self._ask("dry_run", spec)
        return found

    def submit(self, spec: "JobSpec", user: str | None, *, anew: bool = False) -> Job:
        """Return the job of a request; see `Service.submit`. `anew` makes one where there is one already."""
        found: Job = self._ask("submit", spec, user, once=not anew)
        return found

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._process.end()

    def _ask(self, verb: str, *values: Any, **options: Any) -> Any:
        with self._lock:
            ask = self._process.connected()
            try:
                ask.send((verb, values, options))
                if not ask.poll(self._limit):
                    self._process.end()
                    raise ModelError(
                        f"Reading this model took longer than {self._limit:.0f} s and was ended. Try it with "
                        "`tightfit submit MODEL --dry-run` on the machine itself."
                    )
                error, found = ask.recv()
            except (EOFError, OSError) as gone:
                self._process.end()
                raise ModelError(
                    "Reading this model ended the process that did (out of memory, or a fault in a library). Try it "
                    "with `tightfit submit MODEL --dry-run` on the machine itself."
                ) from gone
        if error is not None:
            raise error
        return found


def _answer(questions: Connection, settings: Settings, idle_seconds: float) -> None:
    """Answer questions until nobody asks any more."""
    from tightfit.service import Service

    service = Service(settings)
    verbs: dict[str, Callable[..., Any]] = {"dry_run": service.dry_run, "submit": service.submit}
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while questions.poll(idle_seconds):
            verb, values, options = questions.recv()
            try:
                questions.send((None, verbs[verb](*values, **options)))
            except TightfitError as error:
                questions.send((error, None))
