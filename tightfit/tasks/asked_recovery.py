"""From a wish for a recovery to its task: all that can be refused is, before the task exists."""

from collections.abc import Sequence
from dataclasses import dataclass

from space.errors import JobFailedError, UsageError
from space.inventory import Inventory
from space.question import QUESTIONS
from space.recover_options import RecoverOptions
from space.results.document import FrontDocument
from space.results.recovery_names import SHARDINGS
from storage.leases.lease import host_name
from storage.point_tasks import NewTask, TaskKind
from storage.records import Job, Trial
from storage.sound_records import ground_of
from tightfit.config import login_name
from tightfit.export.select import select_point
from tightfit.searched_model import check_plan, front_plans, searched_inventory

MAX_TEMPERATURE = 100.0
CREW_SIZES = (1, 2, 4, 8)
"""Processes that can share the eight sequences of a step."""


@dataclass(frozen=True, slots=True)
class RecoverWish:
    """What somebody asks for who wants a point recovered.

    Attributes:
        point: by name; None: the recommended one.
        method: which recovery; None: the cheapest that helps, then the next while it pays.
        minutes: of computing on one core for each recovery; None: as long as its course takes.
        text: what it learns from, as a calibration source; None: more of the job's.
        seed: of what it draws.
        processes: of this machine that train together.
        sharding: what they divide, one of `SHARDINGS`.
        checkpointing: blocks keep their inputs alone for the way back, though memory would hold more.
        temperature: of both distributions while training; their KL is multiplied by its square.
        hard_labels: the weight of the cross-entropy of the text's own tokens beside that KL.

    """

    point: str | None = None
    method: str | None = None
    minutes: float | None = None
    text: str | None = None
    seed: int = 0
    processes: int = 1
    sharding: str = "none"
    checkpointing: bool = False
    temperature: float = 1.0
    hard_labels: float = 0.0


def asked_recovery(job: Job, document: FrontDocument, trials: Sequence[Trial], wish: RecoverWish) -> NewTask:
    """Choose the point of a front that is recovered.

    Raises:
        NotFoundError, InfeasibleBudgetError: no such point.
        SpecError: there is no such recovery, or it can do nothing for the point.
        JobFailedError: the job has not judged its points yet.
        UsageError: an option cannot be used.

    """
    from workers.recover.recovery_table import recovery_of

    if wish.minutes is not None and not wish.minutes > 0:
        raise UsageError(f"--minutes {wish.minutes:g} must be above 0.")
    _check_crew(wish)
    if document.measured_on != "held_out":
        raise JobFailedError(
            f"Job {job.job_id} has not judged its points on held-out text yet: recover one afterwards."
        )
    inventory = searched_inventory(job)
    _check_loss(wish, inventory)
    point = select_point(document, inventory, wish.point)
    plan = front_plans(document, trials)[point.point]
    check_plan(job.job_id, plan, inventory)
    ground_of(job)
    if wish.method is not None:
        recovery_of(wish.method).check(inventory, plan, point.point)
    options = RecoverOptions(
        point=point,
        method=wish.method,
        seed=wish.seed,
        minutes=wish.minutes,
        text=_lasting(wish.text),
        processes=wish.processes,
        sharding=wish.sharding,
        checkpointing=wish.checkpointing,
        temperature=wish.temperature,
        hard_labels=wish.hard_labels,
    )
    return NewTask(
        kind=TaskKind.RECOVER,
        job_id=job.job_id,
        point=point.point,
        trial=point.trial,
        out="",
        options=options.to_json(),
        host=host_name(),
        user=login_name(),
    )


def _check_loss(wish: RecoverWish, inventory: Inventory) -> None:
    """Raise UsageError where what is trained for cannot be as wished."""
    if not 0 < wish.temperature <= MAX_TEMPERATURE:
        raise UsageError(f"--temperature {wish.temperature:g} must be above 0 and at most {MAX_TEMPERATURE:g}.")
    if not 0 <= wish.hard_labels < float("inf"):
        raise UsageError(f"--hard-labels {wish.hard_labels:g} is a weight beside the KL's, which is 1: 0 or more.")
    if QUESTIONS[inventory.family].answer == "vectors" and (wish.hard_labels or wish.temperature != 1):
        raise UsageError(
            "--temperature and --hard-labels: this model answers with vectors, which are no distributions."
        )


def _check_crew(wish: RecoverWish) -> None:
    """Raise UsageError where processes cannot train together as wished."""
    if wish.processes not in CREW_SIZES:
        raise UsageError(f"--processes {wish.processes}: 1, 2, 4 or 8 can share the eight sequences of a step.")
    if wish.sharding not in SHARDINGS:
        raise UsageError(f"--sharding {wish.sharding!r} is not known; there are {', '.join(SHARDINGS)}.")
    if wish.sharding != "none" and wish.processes == 1:
        raise UsageError(f"--sharding {wish.sharding} divides what several processes hold: give --processes 2 or more.")


def _lasting(text: str | None) -> str | None:
    """Return a text's name as a task keeps it: a file has its whole path."""
    from workers.bounded_files import user_path

    path = None if text is None else user_path(text).absolute()
    return str(path) if path is not None and path.exists() else text
