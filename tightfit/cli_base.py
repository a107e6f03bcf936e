"""What commands share: options, the home, how JSON is printed, and how a queued job is run, left or followed."""

import json
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from space.errors import JobFailedError, JobTakenError, TightfitError

if TYPE_CHECKING:
    from storage.records import Job
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
JobName = Annotated[str, typer.Argument(help="The job's id.")]


def open_service(home: Path | None = None) -> "Service":
    """Return the service of a home."""
    from tightfit.config import load_settings  # noqa: PLC0415 (keeps --help fast)
    from tightfit.service import Service  # noqa: PLC0415

    return Service(load_settings(home))


def home_of(arguments: Sequence[str]) -> Path | None:
    """Return the home that a command line means; None where it means none that could be."""
    from tightfit.config import load_settings  # noqa: PLC0415 (keeps --help fast)

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


def left(service: "Service", job_id: str, home: Path | None, *, detach: bool) -> str:
    """Leave a queued job to a process of its own, or to those that work; return a sentence about it."""
    from tightfit.show import command  # noqa: PLC0415

    if detach:
        service.start_detached(job_id)
    how = "and runs on its own" if detach else f"for `{command('work', home)}`"
    return f"Job {job_id} is queued {how}; watch it with `{command(f'status {job_id} --watch', home)}`."


def run_here(service: "Service", job_id: str, home: Path | None, num_workers: int | None = None) -> None:
    """Run a queued job in this process, or follow it where others run it."""
    from tightfit.show import TerminalListener, command  # noqa: PLC0415

    again = f"`{command(f'resume {job_id}', home)}` goes on from here."
    try:
        job = service.run(job_id, TerminalListener(), num_workers=num_workers)
    except KeyboardInterrupt:
        print(f"Interrupted; {again}", file=sys.stderr)
        raise
    except JobTakenError:
        job = _watch(service, job_id)
    if job.state in ("CANCELLED", "PAUSED"):
        print(f"Job {job_id} was {job.state.lower()}; {again}", file=sys.stderr)


def _watch(service: "Service", job_id: str) -> "Job":
    """Follow a job to its end that others run: between two commands of ours a `tightfit work` may have taken it."""
    from tightfit.show import watch_job  # noqa: PLC0415

    print(f"Job {job_id} is not waiting any more: another process runs it. This one follows.", file=sys.stderr)
    watch_job(service, job_id)
    job = service.store.get_job(job_id)
    if job.state == "FAILED":
        raise JobFailedError(f"Job {job_id} failed: {job.error}")
    return job
