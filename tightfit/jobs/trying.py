"""Trying a point of a job's front: it and the dense model answer a prompt, token by token."""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from space.plan import Plan
from space.results.document import FrontDocument, FrontPoint
from storage.records import Job
from storage.sound_records import ground_of
from tightfit.export.select import select_point
from tightfit.searched_model import check_plan, searched_folder, searched_inventory
from workers.devices import device_here
from workers.levels.level_store import LevelStore
from workers.runtime.prompt import Piece, Prompt
from workers.tasks import Workspace

if TYPE_CHECKING:
    from workers.runtime.tryout import Tryout


def try_point(
    job: Job, document: FrontDocument, plans: Mapping[str, Plan], point: str | None, prompt: Prompt
) -> Iterator[Piece]:
    """Yield what a point (default: the recommended one) and the dense model answer to a prompt.

    Raises:
        NotFoundError, InfeasibleBudgetError: no such point.
        ModelError: the model has gone or changed, gives no text, or memory does not hold it.
        LevelDamagedError: levels of the point are not here.

    """
    chosen = select_point(document, searched_inventory(job), point)
    plan = plans[chosen.point]
    check_plan(job.job_id, plan, searched_inventory(job))
    return _tryout(job, chosen, plan).answers(plan, prompt)


def _tryout(job: Job, point: FrontPoint, plan: Plan) -> "Tryout":
    from tightfit.jobs.recovering import levels_there

    ground, folder = ground_of(job), searched_folder(job)
    cache, inventory, device = ground.cache_folder, searched_inventory(job), device_here()
    values, levels = levels_there(job, point, plan, device)
    workspace = Workspace(str(folder), cache, ground.model_digest, inventory, device=device)
    return _kept(workspace, levels, None if values.model_folder == str(folder) else Path(values.model_folder))


@lru_cache(maxsize=1)  # holding a model takes long
def _kept(workspace: Workspace, levels: LevelStore, point_folder: Path | None) -> "Tryout":
    from workers.runtime.tryout import Tryout

    return Tryout(workspace, levels, point_folder)
