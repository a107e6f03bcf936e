"""Who hears about a running job: the terminal, its log and MLflow."""

import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from space.results.price import MarginalPrice
from storage.leases.lease import holder_name
from storage.private import make_private, make_private_file
from storage.records import Job, told_holder
from storage.tracking.contract import Tracker

if TYPE_CHECKING:
    from search.controller import Listener


class TerminalListener:
    """Prints one line per step on stderr, or to a file, with the time since the start."""

    def __init__(self, out: TextIO | None = None) -> None:
        """Start the clock."""
        self._started, self._out = time.monotonic(), out

    def phase(self, job: Job, text: str) -> None:
        """Print a step."""
        self._print(f"{job.job_id}  {text}")

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Print the state of the search."""
        told = "".join(f", {text}" for text in _told(metrics))
        self._print(f"{job.job_id}  {trials_done} trials{told}")

    def tell(self, text: str) -> None:
        """Print what anything else does."""
        self._print(text)

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=self._out or sys.stderr, flush=True)


def _told(metrics: Mapping[str, float]) -> list[str]:
    """Return a search's metrics in words."""
    told = []
    if "hypervolume" in metrics:
        told.append(f"hypervolume {metrics['hypervolume']:.4f}")
    if "best_kl_under_budget" in metrics:
        told.append(f"best KL under the budget {metrics['best_kl_under_budget']:.5f}")
    if "marginal_step_bytes" in metrics:
        told.append(str(MarginalPrice(int(metrics["marginal_step_bytes"]), metrics["marginal_kl_drop"])))
    return told


class LoggingListener:
    """Passes everything on to another listener, and keeps it in a job's log, whichever process runs the job."""

    def __init__(self, inner: "Listener", log: Path) -> None:
        """Remember both; the log is opened with the first line."""
        self._inner, self._log = inner, log
        self._out: TextIO | None = None
        self._lines: TerminalListener | None = None

    def phase(self, job: Job, text: str) -> None:
        """Pass a step on."""
        self._inner.phase(job, text)
        with suppress(OSError):  # a full disk: no job fails for its log
            if (lines := self._opened()) is not None:
                lines.phase(job, text)

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Pass the state of the search on."""
        self._inner.progress(job, trials_done, metrics)
        with suppress(OSError):
            if (lines := self._opened()) is not None:
                lines.progress(job, trials_done, metrics)

    def close(self, end: str) -> None:
        """Write how the run ended, and close."""
        with suppress(OSError):
            if self._out is not None:
                print(end, file=self._out, flush=True)
                self._out.close()

    def _opened(self) -> TerminalListener | None:
        """Return who writes; None where what this process prints goes to the log anyway."""
        if self._lines is None and not _prints_to(self._log):
            make_private(self._log.parent)
            make_private_file(self._log)
            self._out = self._log.open("a", encoding="utf-8", errors="backslashreplace")
            self._lines = TerminalListener(self._out)
            print(
                f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC, {told_holder(holder_name())}", file=self._out, flush=True
            )
        return self._lines


def _prints_to(log: Path) -> bool:
    """Tell whether what this process prints on stderr goes to a file."""
    try:
        return os.path.samestat(os.fstat(sys.stderr.fileno()), log.stat())
    except (OSError, ValueError, AttributeError):  # no such file yet; a stderr without a file behind it
        return False


class TrackingListener:
    """Passes everything on to another listener, and numbers to a tracker."""

    def __init__(self, inner: "Listener", tracker: Tracker) -> None:
        """Remember both."""
        self._inner, self._tracker = inner, tracker

    def phase(self, job: Job, text: str) -> None:
        """Pass a step on."""
        self._inner.phase(job, text)

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Pass the state of the search on to both."""
        self._tracker.progress(job, trials_done, metrics)
        self._inner.progress(job, trials_done, metrics)
