"""The command that makes a point better in the same bytes, and what is told of what came of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from space.results.recovery_names import RECOVERY_NAMES, SHARDINGS
from tightfit.cli.base import AsJson, Home, NewestJob, Queue, chosen, print_json
from tightfit.cli.exports import left_task, tell_on_stderr
from tightfit.cli.submitting.submit_options import one_of
from tightfit.places.open_place import open_place

if TYPE_CHECKING:
    from storage.point_tasks import PointTask
    from tightfit.places.place import Place


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
    processes: Annotated[int, typer.Option(help="Processes of this machine that train together.")] = 1,
    sharding: Annotated[str, one_of(SHARDINGS, "--sharding", help="What they divide among them.")] = "none",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Run blocks again on the way back, though memory would hold more.")
    ] = False,
    temperature: Annotated[float, typer.Option(help="Of the distributions that are compared while training.")] = 1.0,
    hard_labels: Annotated[
        float, typer.Option(help="Weight of the text's own tokens beside the dense model's answers.")
    ] = 0.0,
    queue: Queue = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make a point better in the same bytes; kept only where held-out text shows it."""
    from tightfit.tasks.asked_recovery import RecoverWish

    place, wish = (
        open_place(home),
        RecoverWish(point, method, minutes, text, seed, processes, sharding, checkpointing, temperature, hard_labels),
    )
    job = chosen(place, job)
    if queue:
        found = place.queue_recovery(job, wish)
        print_json(found.to_json()) if as_json else print(left_task(found, home))
        return
    found = place.recover(job, wish, tell_on_stderr)
    print_json(found.to_json()) if as_json else _show(place, found.task, home)


def run_recovery_here(task_id: str, home: Path | None) -> None:
    """Run a queued recovery here, or see that a service does, and tell what came of it."""
    place = open_place(home)
    _show(place, place.run_recovery(task_id, tell_on_stderr).task, home)


def _show(place: "Place", task: "PointTask", home: Path | None) -> None:
    from tightfit.cli.hints import command

    points = place.front(task.job_id).front
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
