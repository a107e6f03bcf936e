"""The commands about a job on its way: how far it is, its log, pausing, stopping and going on."""

import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from space.errors import NotFoundError, UsageError
from storage.point_tasks import is_task_id
from tightfit.cli.base import (
    AsJson,
    Detach,
    Home,
    JobName,
    JobOrExport,
    NewestJob,
    Queue,
    Workers,
    chosen,
    complete_job,
    left,
    open_service,
    print_json,
    run_here,
)
from tightfit.cli.exports import cancel_export, resume_export, show_tasks
from tightfit.cli.recover_point import run_recovery_here
from tightfit.jobs.job_filter import read_wanted
from tightfit.places.open_place import open_place

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tightfit.jobs.job_status import ExportStatus, JobStatus
    from tightfit.places.place import Place

_FOLLOW_SECONDS = 0.5


def status(
    job: Annotated[str | None, typer.Argument(help="A job's id [default: all].", autocompletion=complete_job)] = None,
    watched: Annotated[bool, typer.Option("--watch", help="Follow until the job ends.")] = False,
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state; may be given repeatedly.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs whose model's name holds this.")] = None,
    user: Annotated[str | None, typer.Option(help="Only jobs of this user.")] = None,
    label: Annotated[str | None, typer.Option(help="Only jobs whose label holds this.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show jobs and how far they are: share done, time left, best KL under the budget, what more memory would buy."""
    from tightfit.cli.overviews import show_overview, show_overviews, watch

    place = open_place(home)
    if watched:
        job = watch(place, job or chosen(place, None)).overview.job_id
    if job is None:
        jobs = place.jobs(read_wanted(state, model, user, label))
        if as_json:
            mine = defaultdict(list)
            for found in place.exports():
                mine[found.task.job_id].append(found)
            print_json([_status_json(found, mine[found.overview.job_id]) for found in jobs])
        else:
            show_overviews(jobs, place.name)
        return
    only, exports = place.job(job), place.exports(job)
    if as_json:
        print_json(_status_json(only, exports))
    else:
        show_overview(only)
        show_tasks(exports)


def _status_json(found: "JobStatus", exports: "Sequence[ExportStatus]") -> dict[str, Any]:
    return found.to_json() | {"exports": [export.to_json() for export in exports]}


def logs(
    job: NewestJob = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    home: Home = None,
) -> None:
    """Print a job's log: what it did, in whichever process of this home it ran."""
    place = open_place(home)
    job = job or chosen(place, None)
    state = place.job(job).overview.state
    if place.log(job, 0) is None and not (follow and not state.rests):
        raise NotFoundError(f"Job {job} is {state} and has no log in {place.told_log(job)}: it was not run here.")
    _print_log(place, job, follow=follow)


def _print_log(place: "Place", job: str, *, follow: bool) -> None:
    """Print a log, and as long as its job goes on and somebody follows, what is added to it."""
    position = 0
    while True:
        rests = not follow or place.job(job).overview.state.rests
        while (found := place.log(job, position)) is not None and found[0]:
            print(found[0], end="", flush=True)
            position = found[1]
        if rests:
            return
        time.sleep(_FOLLOW_SECONDS)


def study(
    job: NewestJob = None,
    storage: Annotated[str, typer.Option(help="Where to: a URL such as `sqlite:///study.db`.")] = "sqlite:///study.db",
    home: Home = None,
) -> None:
    """Write a job as an Optuna study, for `optuna-dashboard URL` and for whoever knows Optuna."""
    from tightfit.places.at_home import AtHome

    service = open_service(home)
    count = service.write_study(job := job or chosen(AtHome(service), None), storage)
    print(f"Study {job}: {count} plans, those that were measured on all of the search text.")


def cancel(job: JobOrExport, home: Home = None) -> None:
    """Stop a job, whose front so far is kept, or an export."""
    if is_task_id(job):
        cancel_export(open_place(home), job)
    else:
        _ask_to_rest("cancel", job, home)


def pause(job: JobName, home: Home = None) -> None:
    """Stop a job until it is resumed; its front so far is kept."""
    _ask_to_rest("pause", job, home)


def describe(
    job: JobName,
    label: Annotated[str | None, typer.Option(help="What to call it; an empty text takes it away.")] = None,
    note: Annotated[str | None, typer.Option(help="What to note of it; an empty text takes it away.")] = None,
    home: Home = None,
) -> None:
    """Set what people call a job, and note of it."""
    from tightfit.cli.overviews import show_overview

    told = {name: text or None for name, text in (("label", label), ("note", note)) if text is not None}
    if not told:
        raise UsageError("Give --label, --note or both.")
    show_overview(open_place(home).describe(job, told))


def delete(job: JobName, home: Home = None) -> None:
    """Delete a job that rests, its log and its exports in the home; what it measured stays known."""
    open_place(home).delete(job)
    print(f"Job {job} is deleted.")


def _ask_to_rest(verb: str, job: str, home: "Path | None") -> None:
    """Ask a job to rest and tell what came of it."""
    place = open_place(home)
    before = place.job(job).overview.state
    state = (place.cancel if verb == "cancel" else place.pause)(job).overview.state
    if state == "RUNNING":
        told = {"cancel": "stopping", "pause": "pausing"}[verb]
        print(f"Job {job}: {told}.")
    else:
        print(f"Job {job} is {'already ' if state == before else ''}{state.lower()}.")


def resume(
    job: JobOrExport,
    detach: Detach = False,
    queue: Queue = False,
    workers: Workers = None,
    home: Home = None,
) -> None:
    """Go on with a job or an export that was paused, cancelled, failed or whose process has gone."""
    from tightfit.cli.hints import command

    if is_task_id(job):
        if detach or workers is not None:
            raise UsageError(f"{job} is an export: leave --detach and --workers out; --queue leaves it to others.")
        resume_export(open_place(home), job, home, run_recovery_here, queue=queue)
        return
    if workers is not None and (detach or queue):
        raise UsageError("--workers is for a run in this process: leave it out, or --detach and --queue.")
    place, watched = open_place(home), f"watch it with `{command(f'status {job} --watch', home)}`."
    state = place.requeue(job).overview.state
    if state == "RUNNING":
        print(f"Job {job} is running; {watched}")
    elif state == "DONE":
        from tightfit.cli.show import show_result

        print(f"Job {job} is done already: all that it asked for was measured and judged.", file=sys.stderr)
        show_result(place.front(job), home)
    elif detach or queue:
        print(left(place, job, home, detach=detach))
    else:
        run_here(place, job, home, workers)
        from tightfit.cli.show import show_result

        show_result(place.front(job), home)
