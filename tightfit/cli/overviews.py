"""`tightfit status`: how far jobs are, by their summaries alone."""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from space.errors import NotFoundError
from storage.job_summary import Summary, told_seconds
from storage.records import JobState
from tightfit.jobs.job_status import JobStatus

if TYPE_CHECKING:
    from tightfit.places.place import Place

_POLL_SECONDS = 1.0
_NAMES = ("job", "state", "model", "budget", "trials", "done", "left", "best KL", "phase")


def show_overviews(jobs: Sequence[JobStatus], place: str) -> None:
    """Print the jobs of a place as a table, newest first."""
    if not jobs:
        print(f"No jobs yet in {place}; `tightfit submit MODEL --budget B` or `tightfit demo` makes one.")
        return
    rows = [_NAMES, *(tuple(_cells(job)) for job in jobs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        print("  ".join([*cells, row[-1]]).rstrip())


def _cells(found: JobStatus) -> Iterator[str]:
    job, summary = found.overview, found.overview.summary
    yield from (job.job_id, str(job.state), _short(job.model), job.budget)
    yield str(sum(summary.trials.values())) if summary else "0"
    share, left = found.share_done, found.seconds_left
    yield "" if share is None else f"{share:.0%}"
    yield "" if left is None else told_seconds(left)
    yield f"{summary.best_kl_divergence:.5f}" if summary and summary.best_kl_divergence is not None else ""
    if found.is_stopped:
        yield f"stopped: `tightfit resume {job.job_id}` goes on"
    else:
        yield " ".join((job.error or ("" if job.state is JobState.DONE else job.phase)).split())


def _short(model: str) -> str:
    """Return a model's name: of a path its last part."""
    return Path(model).name if model.startswith("/") else model


def show_overview(found: JobStatus) -> None:
    """Print all that is known of how far a job is."""
    for name, text in _lines(found):
        print(f"{name:<12} {text}")


def _lines(found: JobStatus) -> Iterator[tuple[str, str]]:
    job, summary = found.overview, found.overview.summary
    yield "job", f"{job.job_id}  {job.state}" + (f"  of {job.user}" if job.user else "")
    told = {"label": job.label, "model": f"{job.model} to {job.budget}", "note": job.note}
    yield from ((name, text) for name, text in told.items() if text)
    if found.is_stopped:
        yield "stopped", f"the process that ran it is gone; `tightfit resume {job.job_id}` goes on"
    if job.error or (job.phase and job.state is not JobState.DONE):
        yield ("error", job.error) if job.error else ("phase", job.phase)
    if summary is not None:
        yield from _of_search(found, summary)
    if found.log is not None:
        yield "log", found.log


def _of_search(found: JobStatus, summary: Summary) -> Iterator[tuple[str, str]]:
    yield "done", ", ".join(_time(found, summary))
    if summary.trials:
        by_state = ", ".join(f"{count} {state}" for state, count in summary.trials.items())
        yield "trials", f"{sum(summary.trials.values())} ({by_state})"
    if summary.hypervolume is not None:
        yield "hypervolume", f"{summary.hypervolume:.4f}"
    if summary.best_kl_divergence is not None:
        where = f" on {summary.measured_on.replace('_', '-')} text" if summary.measured_on else ""
        yield "best KL", f"{summary.best_kl_divergence:.5f} under the budget{where}"
    if summary.marginal_price is not None:
        yield "price", str(summary.marginal_price)
    if (best := summary.recommended) is not None:
        told = f"{best.point} of {summary.num_points} points: {best.size_bytes:,} bytes, KL {best.kl_divergence:.5f}"
        yield "recommended", told


def _time(found: JobStatus, summary: Summary) -> Iterator[str]:
    share, left = found.share_done, found.seconds_left
    if share is not None:
        yield f"{share:.0%}"
    if left is not None:
        yield f"about {told_seconds(left)} left"
    yield (
        f"{told_seconds(summary.elapsed_seconds)} so far" if left is not None else told_seconds(summary.elapsed_seconds)
    )


def newest_front(jobs: Sequence[JobStatus]) -> JobStatus:
    """Return the newest of a place's jobs that has a front; the newest one where none has.

    Raises:
        NotFoundError: there are no jobs.

    """
    if not jobs:
        raise NotFoundError("There are no jobs yet; `tightfit submit MODEL --budget B` or `tightfit demo` makes one.")
    return next((job for job in jobs if job.overview.has_front), jobs[0])


def watch(place: "Place", job_id: str) -> JobStatus:
    """Print a job's steps on stderr until it rests; return it."""
    last: tuple[str, str] = ("", "")
    while True:
        status = place.job(job_id)
        job = status.overview
        num_trials = sum(job.summary.trials.values()) if job.summary else 0
        step = f"{job_id}  {job.state}  {num_trials} trials  {job.error or job.phase}"
        found = ", ".join(_told(job.summary))
        if step != last[0]:
            time_told = "".join(f"  {text}" for text in _time(status, job.summary)) if job.summary else ""
            print(step + time_told, file=sys.stderr, flush=True)
        if found != last[1]:
            print(f"{job_id}  {found}", file=sys.stderr, flush=True)
        last = step, found
        if job.state.rests:
            return status
        time.sleep(_POLL_SECONDS)


def _told(summary: Summary | None) -> Iterator[str]:
    """Yield how far a search is, in words."""
    if summary is None:
        return
    if summary.hypervolume is not None:
        yield f"hypervolume {summary.hypervolume:.4f}"
    if summary.best_kl_divergence is not None:
        yield f"best KL under the budget {summary.best_kl_divergence:.5f}"
    if summary.marginal_price is not None:
        where = "on held-out text: " if summary.measured_on == "held_out" else ""
        yield f"{where}{summary.marginal_price}"
