"""From a wish for an export to its task: all that can be refused is, before the task exists."""

from collections.abc import Sequence

from space.budget import parse_budget
from space.cost import plan_bytes
from space.export_options import ExportOptions
from space.results.document import FrontDocument
from storage.point_tasks import NewTask, TaskKind
from storage.records import Job, Trial
from storage.sound_records import ground_of
from tightfit.config import login_name
from tightfit.export.checkpoint import check_format
from tightfit.export.early import known_target
from tightfit.export.select import select_point
from tightfit.searched_model import check_plan, front_plans, searched_inventory
from tightfit.tasks.export_wish import DEFAULT_RECOVERY, ExportWish


def asked_export(job: Job, document: FrontDocument, trials: Sequence[Trial], wish: ExportWish) -> NewTask:
    """Choose the point of a front that is exported, and what it may take.

    Raises:
        NotFoundError, InfeasibleBudgetError: no such point.
        SpecError: the target cannot hold the point, or no recovery has such a name.

    """
    if wish.recovery != DEFAULT_RECOVERY:  # looking a name up takes torch
        from workers.recover.recovery_table import recovery_of

        recovery_of(wish.recovery)
    inventory = searched_inventory(job)
    point = select_point(document, inventory, wish.point, wish.budget)
    plan = front_plans(document, trials)[point.point]
    check_plan(job.job_id, plan, inventory)
    ground_of(job)
    target = known_target(wish.target or job.spec.target)
    check_format(inventory, plan, target)
    cache = plan_bytes(inventory, plan, target, job.spec.context, job.spec.batch).key_value
    limit = parse_budget(wish.budget).size_bytes(inventory) if wish.budget else document.budget_bytes
    if wish.point is not None:  # asked for by name: what it takes in this format is what it may take
        limit = max(limit, plan_bytes(inventory, plan, target, job.spec.context, job.spec.batch).size_bytes)
    return NewTask(
        kind=TaskKind.EXPORT,
        job_id=job.job_id,
        point=point.point,
        trial=point.trial,
        out=str(wish.out.absolute()),
        options=ExportOptions(point, document.measured_on, limit, cache, target, wish.refit, wish.recovery).to_json(),
        host=wish.host,
        user=login_name(),
    )
