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
from tightfit.cli.exports import cancel_export, exports_json, resume_export, show_tasks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from storage.job_summary import Overview
    from storage.point_tasks import PointTask
    from tightfit.service import Service

_FOLLOW_SECONDS = 0.5


def status(
    job: Annotated[str | None, typer.Argument(help="A job's id [default: all].", autocompletion=complete_job)] = None,
    watched: Annotated[bool, typer.Option("--watch", help="Follow until the job ends.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show jobs and how far they are: share done, time left, best KL under the budget, what more memory would buy."""
    from tightfit.cli.overviews import show_overview, show_overviews, watch

    service = open_service(home)
    store, log_path = service.store, service.settings.log_path
    if watched:
        job = watch(store, job or chosen(service, None)).job_id
    if job is None:
        jobs = store.list_overviews()
        if as_json:
            mine = defaultdict(list)
            for task in service.tasks():
                mine[task.job_id].append(task)
            print_json([_status_json(found, log_path(found.job_id), mine[found.job_id]) for found in jobs])
        else:
            show_overviews(jobs, service.settings.home)
        return
    found, exports = store.overview(job), service.tasks(job)
    if as_json:
        print_json(_status_json(found, log_path(job), exports))
    else:
        show_overview(found, log_path(job))
        show_tasks(exports)


def _status_json(found: "Overview", log: "Path", exports: "Sequence[PointTask]") -> dict[str, Any]:
    from tightfit.jobs.job_status import overview_json

    return overview_json(found, log) | {"exports": exports_json(exports)}


def logs(
    job: NewestJob = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job ends.")] = False,
    home: Home = None,
) -> None:
    """Print a job's log: what it did, in whichever process of this home it ran."""
    service = open_service(home)
    job = job or chosen(service, None)
    state, log = service.store.overview(job).state, service.settings.log_path(job)
    if not log.exists() and not (follow and not state.rests):
        raise NotFoundError(f"Job {job} is {state} and has no log in this home ({log}): it was not run here.")
    _print_log(service, job, log, follow=follow)


def _print_log(service: "Service", job: str, log: "Path", *, follow: bool) -> None:
    """Print a log, and as long as its job goes on and somebody follows, what is added to it."""
    position = 0
    while True:
        rests = not follow or service.store.overview(job).state.rests
        if log.exists():
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(position)
                print(file.read(), end="", flush=True)
                position = file.tell()
        if rests:
            return
        time.sleep(_FOLLOW_SECONDS)


def study(
    job: NewestJob = None,
    storage: Annotated[str, typer.Option(help="Where to: a URL such as `sqlite:///study.db`.")] = "sqlite:///study.db",
    home: Home = None,
) -> None:
    """Write a job as an Optuna study, for `optuna-dashboard URL` and for whoever knows Optuna."""
    service = open_service(home)
    count = service.write_study(job := job or chosen(service, None), storage)
    print(f"Study {job}: {count} plans, those that were measured on all of the search text.")


def cancel(job: JobOrExport, home: Home = None) -> None:
    """Stop a job, whose front so far is kept, or an export."""
    if is_task_id(job):
        cancel_export(open_service(home), job)
    else:
        _ask_to_rest("cancel", job, home)


def pause(job: JobName, home: Home = None) -> None:
    """Stop a job until it is resumed; its front so far is kept."""
    _ask_to_rest("pause", job, home)


def _ask_to_rest(verb: str, job: str, home: "Path | None") -> None:
    """Ask a job to rest and tell what came of it."""
    service = open_service(home)
    before = service.store.glance(job).state
    state = (service.cancel if verb == "cancel" else service.pause)(job).state
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
        resume_export(open_service(home), job, home, queue=queue)
        return
    if workers is not None and (detach or queue):
        raise UsageError("--workers is for a run in this process: leave it out, or --detach and --queue.")
    service, watched = open_service(home), f"watch it with `{command(f'status {job} --watch', home)}`."
    state = service.requeue(job).state
    if state == "RUNNING":
        print(f"Job {job} is running; {watched}")
    elif state == "DONE":
        from tightfit.cli.show import show_result

        print(f"Job {job} is done already: all that it asked for was measured and judged.", file=sys.stderr)
        show_result(service.front(job), home)
    elif detach or queue:
        print(left(service, job, home, detach=detach))
    else:
        run_here(service, job, home, workers)
        from tightfit.cli.show import show_result

        show_result(service.front(job), home)
