"""The commands about exports: writing a point, what became of the others, going on with one and stopping it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from space.targets.target_table import TARGETS
from tightfit.cli.base import AsJson, Home, NewestJob, Queue, chosen, complete_job, print_json
from tightfit.cli.submitting.submit_options import one_of
from tightfit.places.open_place import open_place
from tightfit.tasks.export_wish import ExportWish

if TYPE_CHECKING:
    from storage.point_tasks import PointTask
    from tightfit.exporting import Exported
    from tightfit.jobs.job_status import ExportStatus
    from tightfit.places.place import Place

_NAMES = ("export", "state", "job", "point", "done", "to", "")


def export(
    out: Annotated[Path, typer.Option(help="A new folder.")],
    job: NewestJob = None,
    point: Annotated[str | None, typer.Option(help="A point of the front [default: the recommended one].")] = None,
    budget: Annotated[str | None, typer.Option(help="The best point within this size.")] = None,
    fmt: Annotated[
        str | None, one_of(tuple(TARGETS), "--format", help="What it is written as [default: the job's target].")
    ] = None,
    refit: Annotated[
        bool | None,
        typer.Option(help="Fit the point again; kept only where it helps [default: where memory holds both models]."),
    ] = None,
    queue: Queue = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Write a point as a checkpoint and verify it by loading it again."""
    place = open_place(home)
    job, wish = chosen(place, job), ExportWish(out, point, budget, fmt, refit)
    if queue:
        found = place.queue_export(job, wish)
        print_json(found.to_json()) if as_json else print(left_task(found, home))
        return
    exported = place.export(job, wish, tell_on_stderr)
    _show(exported, as_json=as_json)
    if budget is not None:
        from tightfit.cli.hints import unfilled
        from tightfit.export.early import named_point

        size = named_point(place.front(job), exported.point).size_bytes
        told = unfilled(job, place.spec(job).model, size, budget, exported.budget_bytes, home)
        tell_on_stderr(told) if told else None


def exports(
    job: Annotated[str | None, typer.Argument(help="A job's id [default: all].", autocompletion=complete_job)] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show exports, newest first: how far they are, and what became of them; `resume` and `cancel` take their ids."""
    tasks = open_place(home).exports(job)
    if as_json:
        print_json([found.to_json() for found in tasks])
    elif not tasks:
        print("No point was exported yet; `tightfit export JOB --out DIR` writes one.")
    else:
        show_tasks(tasks)


def resume_export(
    place: "Place", task_id: str, home: Path | None, recover: Callable[[str, Path | None], None], *, queue: bool
) -> None:
    """Go on with a task that failed, was cancelled or whose process has gone: here, or left to those that work.

    `recover` runs a recovery.
    """
    found = place.requeue_export(task_id)
    task = found.task
    if task.state == "RUNNING":
        print(f"{named_task(task)} is running: {task.progress or 'it began a moment ago'}.")
    elif task.state == "DONE":
        print(f"{named_task(task)} is done already: {task.out or (task.result or {}).get('told')}")
    elif queue:
        print(left_task(found, home))
    elif task.kind == "recover":
        recover(task_id, home)
    else:
        _show(place.run_export(task_id, tell_on_stderr), as_json=False)


def cancel_export(place: "Place", task_id: str) -> None:
    """Stop an export and tell what came of it."""
    before = place.export_status(task_id).task.state
    task = place.cancel_export(task_id).task
    state, already = task.state, "already " if task.state == before else ""
    print(
        f"{named_task(task)}: stopping." if state == "RUNNING" else f"{named_task(task)} is {already}{state.lower()}."
    )


def show_tasks(tasks: "Sequence[ExportStatus]") -> None:
    """Print exports as a table; nothing where there are none."""
    if not tasks:
        return
    rows = [_NAMES, *(tuple(_cells(task)) for task in tasks)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _cells(found: "ExportStatus") -> Iterator[str]:
    task = found.task
    yield from (task.task_id, str(task.state), task.job_id, task.point)
    yield "" if task.share_done is None or task.state.rests else f"{task.share_done:.0%}"
    yield task.out or str(task.kind)
    if found.is_stopped:
        yield f"stopped: `tightfit resume {task.task_id}` goes on"
    else:
        yield " ".join((task.error or task.progress).split())


def named_task(task: "PointTask") -> str:
    """Return what people call a task."""
    return f"{'Recovery' if task.kind == 'recover' else 'Export'} {task.task_id}"


def left_task(found: "ExportStatus", home: Path | None) -> str:
    """Return a sentence about a queued task."""
    from tightfit.cli.hints import command

    task = found.task
    told = f"see `{command('exports', home)}`"
    return f"{named_task(task)} of {task.point} is queued for `{command('work', home)}` on this host; {told}."


def _show(exported: "Exported", *, as_json: bool) -> None:
    from tightfit.cli.show import show_export

    print_json(asdict(exported)) if as_json else show_export(exported)


def tell_on_stderr(sentence: str) -> None:
    """Tell people how far it is."""
    print(sentence, file=sys.stderr, flush=True)
