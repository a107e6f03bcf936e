"""Requests judged in a process apart: reading a model takes torch, memory and time, and a hostile one ends only that.

The process begins with the first request and ends when none came for a while; one that takes too long is ended.
"""

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from space.errors import ModelError, TightfitError
from storage.records import Job
from tightfit.config import Settings
from tightfit.http.apart.process_apart import ProcessApart

if TYPE_CHECKING:
    from space.spec import JobSpec
    from storage.point_tasks import PointTask
    from tightfit.estimate import DryRun
    from tightfit.tasks.asked_recovery import RecoverWish

LIMIT_SECONDS = 120.0
START_SECONDS = 600.0
"""Until what reads models is loaded: 5 s, and minutes where a machine is busy; no question is to blame for that."""
IDLE_SECONDS = 60.0

_FIRST = ("search.request.acceptance", "tightfit.estimate", "workers.families.read_inventory")  # torch with the last


class Judge(Protocol):
    """Says what becomes of a request, for who asks in a thread of their own."""

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost; see `Service.dry_run`."""

    def submit(self, spec: "JobSpec", user: str | None, *, anew: bool = False) -> Job:
        """Return the job of a request; see `Service.submit`. `anew` makes one where there is one already."""

    def recover(self, job_id: str, wish: "RecoverWish", user: str | None) -> "PointTask":
        """Return the queued task of a wish for a recovery; see `Service.queue_recovery`."""

    def close(self) -> None:
        """Be asked nothing any more."""


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

    def recover(self, job_id: str, wish: "RecoverWish", user: str | None) -> "PointTask":
        """Return the queued task of a wish for a recovery; see `Service.queue_recovery`."""
        found: PointTask = self._ask("recover", job_id, wish, user)
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
                if self._process.is_new and ask.poll(START_SECONDS):
                    ask.recv()
                    self._process.is_new = False
                if self._process.is_new or not ask.poll(self._limit):
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
    """Say that all is loaded, then answer questions until nobody asks any more."""
    from tightfit.service import Service

    for name in _FIRST:
        import_module(name)
    questions.send("loaded")
    service = Service(settings)
    verbs: dict[str, Callable[..., Any]] = {
        "dry_run": service.dry_run,
        "submit": service.submit,
        "recover": service.queue_recovery,
    }
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while questions.poll(idle_seconds):
            verb, values, options = questions.recv()
            try:
                questions.send((None, verbs[verb](*values, **options)))
            except TightfitError as error:
                questions.send((error, None))
