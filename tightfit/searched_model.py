"""The model that a job searches: named so that it stays the same, and kept with the job as far as it can be."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from space.errors import ModelError, StoreError
from space.inventory import Inventory
from space.plan import Plan
from space.results.document import FrontDocument
from storage.records import Job, Trial
from workers.bounded_files import user_path
from workers.models.hub import pinned
from workers.models.model_files import BUNDLED, local_folder, model_digest, resolve_model
from workers.text.text_sources import STDLIB

if TYPE_CHECKING:
    from space.spec import JobSpec


def lasting(spec: "JobSpec", folder: Path) -> "JobSpec":
    """Return a request as a job keeps it: it may be run and exported from any folder, at any later time.

    Args:
        spec: as asked; its files have whole paths afterwards, and a model of the hub its commit.
        folder: what its model was resolved to.

    """
    paths = {"model": spec.model if spec.model != BUNDLED else "", "calibration": spec.calibration or ""}
    paths["calibration"] = "" if spec.calibration == STDLIB else paths["calibration"]
    paths["judge"] = spec.judge or ""
    found = {name: user_path(text).absolute() for name, text in paths.items() if text}
    kept: dict[str, str | None] = {name: str(path) for name, path in found.items() if path.exists()}
    if local_folder(spec.model) is None:
        kept["model"], kept["revision"] = pinned(spec.model, spec.revision, folder)
    return spec.model_copy(update=kept)


def searched_folder(job: Job, *, offline: bool = False) -> Path:
    """Return the folder of a job's model; `offline` looks for a hub's model only in its cache.

    Raises:
        ModelError: it is not there any more, or its config or weights are not those that the job searched.

    """
    folder = resolve_model(job.spec.model, job.spec.revision, offline=offline)
    recorded = job.facts.model_digest
    if recorded is not None and model_digest(folder) != recorded:
        raise ModelError(
            f"{folder}: not the model that job {job.job_id} searched: its config or weights changed since then. Put "
            "what was searched back in its place, or submit a job on what is there now."
        )
    return folder


def searched_inventory(job: Job) -> Inventory:
    """Return the modules of a job's model, as the job kept them; one of an older tightfit has them in its folder only.

    Raises:
        ModelError: it was of an older one, and its model has gone or changed.

    """
    if job.facts.inventory is not None:
        return job.facts.inventory
    from search.request.prepare import read_inventory

    cache = job.facts.cache_folder  # of the model, in the one of all models
    return read_inventory(searched_folder(job, offline=True), Path(cache).parent if cache else None)  # experts tied


def front_plans(document: FrontDocument, trials: Sequence[Trial]) -> dict[str, Plan]:
    """Return point -> plan of a front. Raises StoreError where its trials have gone."""
    plans = {trial.number: trial.plan for trial in trials}
    for point in document.front:
        if point.trial not in plans:
            raise StoreError(
                f"Job {document.job} has no trial {point.trial}, which is point {point.point} of its front: somebody "
                "changed its records. Restore a copy of the database, or submit the job again."
            )
    return {point.point: plans[point.trial] for point in document.front}


def check_plan(job_id: str, plan: Plan, inventory: Inventory) -> None:
    """Refuse a plan of other modules than a model has. Raises StoreError."""
    names = {module.name for module in inventory.sites}
    if wrong := sorted(names ^ plan.mapping.keys()):
        raise StoreError(
            f"Job {job_id} has a plan that does not fit its model (at {wrong[0]}): somebody changed its records. "
            "Restore a copy of the database, or submit the job again."
        )
