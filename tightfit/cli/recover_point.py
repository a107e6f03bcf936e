"""The command that makes a point better in the same bytes, and what is told of what came of it."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from space.errors import UsageError
from space.recover_options import RECOVERY_NAMES
from tightfit.cli.base import AsJson, Home, NewestJob, Queue, chosen, print_json
from tightfit.cli.exports import left_task, tell_on_stderr
from tightfit.cli.submitting.submit_options import one_of
from tightfit.places.open_place import open_home

if TYPE_CHECKING:
    from storage.point_tasks import PointTask
    from tightfit.service import Service


def recover(
    job: NewestJob = None,
    point: Annotated[str | None, typer.Option(help="A point of the front [default: the recommended one].")] = None,
    method: Annotated[
        str | None, one_of(RECOVERY_NAMES, "--method", help="How [default: the cheapest, then the next while it pays].")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Of computing on one core, for each method [default: its whole course].")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Text to learn from [default: more of the job's].")] = None,
    seed: Annotated[int, typer.Option(help="Of what it draws.")] = 0,
    queue: Queue = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make a point better in the same bytes; kept only where held-out text shows it."""
    from tightfit.jobs.job_status import ExportStatus
    from tightfit.places.at_home import AtHome
    from tightfit.tasks.asked_recovery import RecoverWish

    if home is None and os.environ.get("TIGHTFIT_URL"):
        raise UsageError("A service recovers no points yet: name the home of the job with --home, on its machine.")
    service, wish = open_home(home), RecoverWish(point, method, minutes, text, seed)
    job = chosen(AtHome(service), job)
    if queue:
        found = ExportStatus.of(service.queue_recovery(job, wish))
        print_json(found.to_json()) if as_json else print(left_task(found, home))
        return
    task = service.recover(job, wish, tell_on_stderr)
    print_json(ExportStatus.of(task).to_json()) if as_json else _show(service, task, home)


def run_recovery_here(task_id: str, home: Path | None) -> None:
    """Run a queued recovery of a home in this process, and tell what came of it."""
    service = open_home(home)
    _show(service, service.run_recovery(task_id, tell_on_stderr), home)


def _show(service: "Service", task: "PointTask", home: Path | None) -> None:
    from tightfit.cli.hints import command

    points = service.front(task.job_id).front
    made = next((p for p in points if p.recovered is not None and p.recovered.task == task.task_id), None)
    if made is None or made.recovered is None:
        print(f"{task.point} of job {task.job_id} stays as it is.")
        return
    low, high = made.kl_divergence_ci95
    found = made.recovered.versus_origin
    ratio = "" if found.ratio is None else f", {found.ratio:.3f} of {found.other}'s"
    print(f"Recovered {task.point} of job {task.job_id} as {made.point}, in the same {made.size_bytes:,} bytes:")
    print(f"  KL {made.kl_divergence:.6f} (95 % {low:.6f} to {high:.6f}){ratio}")
    print(f"  {command(f'export {task.job_id} --point {made.point} --out DIR', home)}")
