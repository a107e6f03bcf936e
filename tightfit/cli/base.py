"""What commands share: options, the home, how JSON is printed, and how a queued job is run, left or followed."""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from space.errors import JobFailedError, JobTakenError, TightfitError
from tightfit.places.open_place import open_place

if TYPE_CHECKING:
    from tightfit.jobs.job_status import JobStatus
    from tightfit.places.place import Place
    from tightfit.service import Service

Home = Annotated[
    Path | None, typer.Option("--home", help="Folder for everything, the database too [default: $TIGHTFIT_HOME].")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Ray workers here [default: what each job asked for]; the front is the same.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; see `tightfit status`.")]
Queue = Annotated[bool, typer.Option("--queue", help="Return at once and leave the job to `tightfit work`.")]


def open_service(home: Path | None = None, *, create: bool = False, needed: bool = True) -> "Service":
    """Return the service object of a home (None: the usual one), for commands that only a home has.

    Raises:
        NotFoundError: it is not there; see `open_home`.

    """
    from tightfit.places.open_place import open_home

    return open_home(home, create=create, needed=needed)


def complete_job(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the ids that a shell may complete, each with what it is; nothing where they cannot be read."""
    with suppress(Exception):
        jobs = [found.overview for found in open_place(ctx.params.get("home")).jobs()]
        return [(j.job_id, f"{j.state}, {j.model}, {j.budget}") for j in jobs if j.job_id.startswith(incomplete)]
    return []


JobName = Annotated[str, typer.Argument(help="The job's id.", autocompletion=complete_job)]
JobOrExport = Annotated[str, typer.Argument(help="The id of a job or an export.", autocompletion=complete_job)]
NewestJob = Annotated[
    str | None,
    typer.Argument(help="The job's id [default: the newest with a front].", autocompletion=complete_job),
]


def chosen(place: "Place", job: str | None) -> str:
    """Return a job's id; where none is named that of the newest with a front, and says so. Raises NotFoundError."""
    if job is not None:
        return job
    from tightfit.cli.overviews import newest_front

    found = newest_front(place.jobs()).overview
    print(f"Job {found.job_id}: {found.model} to {found.budget}.", file=sys.stderr)
    return found.job_id


def home_of(arguments: Sequence[str]) -> Path | None:
    """Return the home that a command line means; None where it means none that could be."""
    from tightfit.config import load_settings

    named = [text.removeprefix("--home=") for text in arguments if text.startswith("--home=")]
    named += [text for option, text in pairwise(arguments) if option == "--home"]
    try:
        return load_settings(Path(named[-1]) if named else None).home
    except TightfitError:
        return None


def show_any_character(stream: TextIO) -> None:
    """Let a stream show what its encoding lacks (half a character in a file's name, say) as an escape."""
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))


def left(place: "Place", job_id: str, home: Path | None, *, detach: bool) -> str:
    """Leave a queued job to a process of its own, or to those that work; return a sentence about it."""
    from tightfit.cli.hints import command

    if detach:
        place.start_detached(job_id)
    how = "and runs on its own" if detach else f"for `{command('work', home)}`"
    return f"Job {job_id} is queued {how}; watch it with `{command(f'status {job_id} --watch', home)}`."


def run_here(place: "Place", job_id: str, home: Path | None, num_workers: int | None = None) -> None:
    """Run a queued job in this process, or follow it where others run it."""
    from tightfit.cli.hints import command
    from tightfit.cli.overviews import watch

    again = f"`{command(f'resume {job_id}', home)}` goes on from here."
    try:
        found = _begun(place, job_id, num_workers)
        if not found.overview.state.rests:
            found = watch(place, job_id)
    except KeyboardInterrupt:
        print(f"Interrupted; {again if place.is_here else f'job {job_id} goes on at {place.name}.'}", file=sys.stderr)
        raise
    except SystemExit:
        if place.is_here:
            print(f"Stopped by SIGTERM, and queued; {again}", file=sys.stderr)
        raise
    job = found.overview
    if job.state == "FAILED":
        raise JobFailedError(f"Job {job_id} failed: {job.error}")
    if job.state in ("CANCELLED", "PAUSED"):
        print(f"Job {job_id} was {job.state.lower()}; {again}", file=sys.stderr)


def _begun(place: "Place", job_id: str, num_workers: int | None) -> "JobStatus":
    """Return a job once it was run here, or as it is where others run it."""
    try:
        return place.run(job_id, num_workers)
    except JobTakenError:  # between two commands of ours a `tightfit work` may have taken it
        print(f"Job {job_id} is not waiting any more: another process runs it. This one follows.", file=sys.stderr)
        return place.job(job_id)
