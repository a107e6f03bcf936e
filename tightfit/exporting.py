"""One export from choice to proof: select, write beside, verify by reloading, put in place."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.budget import format_bytes, parse_budget
from space.cost import plan_cost
from space.results.document import FrontDocument, FrontPoint
from storage.records import Job, Trial
from storage.sound_records import check_facts
from tightfit.export.checkpoint import (
    Source,
    check_companions,
    check_format,
    new_folder,
    write_checkpoint,
    write_papers,
)
from tightfit.export.early import known_target
from tightfit.export.select import select_point
from tightfit.export.verify import Promise, verify_export
from tightfit.model_card import Facts, model_card, provenance
from tightfit.origin import origin
from tightfit.searched_model import check_plan, front_plans, searched_folder
from workers.devices import Device, device_here
from workers.families.read_inventory import inspect_model
from workers.levels.level_store import LevelStore
from workers.run.memory_limits import free_bytes
from workers.tasks import Evaluate, Workspace
from workers.text.tokens import TokenSet

if TYPE_CHECKING:
    from workers.recover.recovery import Recovered, Recovery

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Exported:
    """A verified export: `size_bytes` is what the weight files' tensors take, `file_bytes` with the header.

    `measured_on` says on which text the recorded KL was measured: "search" while a job has not judged its plans.
    `refit_kl_divergence` is what a refit reached on held-out text, None where none was made; `refitted` tells whether
    it was kept.
    """

    path: str
    format: str
    point: str
    size_bytes: int
    file_bytes: int
    predicted_bytes: int
    budget_bytes: int
    kl_divergence: float
    recorded_kl_divergence: float
    logit_difference: float
    verified: bool
    measured_on: str = "held_out"
    refitted: bool = False
    refit_kl_divergence: float | None = None


def export_point(
    job: Job,
    document: FrontDocument,
    trials: Sequence[Trial],
    out: Path,
    point_name: str | None,
    budget: str | None,
    target_name: str | None,
    wish: tuple["Recovery", bool | None],
    tell: Tell,
) -> Exported:
    """Export one point of a front; see `Service.export`. A wish is a recovery: True, False, or where it can help."""
    folder = searched_folder(job)
    check_companions(folder)
    inventory = inspect_model(folder)
    point = select_point(document, inventory, point_name, budget)
    plan = front_plans(document, trials)[point.point]
    check_plan(job.job_id, plan, inventory)
    check_facts(job.job_id, job.facts, "tokens", "cache_folder", "model_digest")
    target = known_target(target_name or job.spec.target)
    tokens = TokenSet.from_json(job.facts["tokens"])
    levels = Path(job.facts["cache_folder"]) / "levels"
    source = Source(folder, inventory, LevelStore(levels, job.facts["model_digest"], tokens.of("calibration")), plan)
    check_format(source, target)
    device = _device(job, tell)
    workspace = Workspace(str(folder), job.facts["cache_folder"], job.facts["model_digest"], inventory, device=device)
    _make_missing(workspace, source, tokens)
    cache = document.dense.size_bytes - inventory.dense_bytes
    limit = parse_budget(budget).size_bytes(inventory) if budget else document.budget_bytes
    if point_name is not None:  # asked for by name: what it takes in this format is what it may take
        limit = max(limit, plan_cost(inventory, plan, target).weight_bytes + cache)
    with new_folder(out) as temporary:
        is_tried = _is_recovered(*wish, source, tokens, device, tell)
        refitted = _recover(wish[0], workspace, source, tokens, tell) if is_tried else None
        promise = Promise(limit - cache, *_promised_kl(job, document, point, device, refitted))
        if refitted is not None and refitted.kept:
            tokens = refitted.tokens
            source = replace(source, levels=replace(source.levels, calibration_digest=tokens.of("calibration")))
        written = write_checkpoint(temporary, source, target)
        verified = verify_export(written, inventory, plan, target, promise, _request(workspace, tokens))
        found = Facts(job, folder, inventory, point, plan, target, written, verified, refitted, origin())
        write_papers(written, provenance(found), model_card(found))
    return Exported(
        path=str(out),
        format=target,
        point=point.point,
        size_bytes=written.size_bytes,
        file_bytes=written.file_bytes,
        predicted_bytes=written.predicted_bytes,
        budget_bytes=limit,
        kl_divergence=verified.kl_divergence,
        recorded_kl_divergence=point.kl_divergence,
        logit_difference=verified.logit_difference,
        verified=True,
        measured_on=document.measured_on,
        refitted=refitted is not None and refitted.kept,
        refit_kl_divergence=None if refitted is None else refitted.kl_after,
    )


def _promised_kl(
    job: Job, document: FrontDocument, point: FrontPoint, device: Device, refitted: "Recovered | None"
) -> tuple[float | None, bool]:
    """Return the KL on held-out text that the files must show, if it is known, and whether it was measured here."""
    if refitted is not None and refitted.kept:
        return refitted.kl_after, True
    recorded = point.kl_divergence if document.measured_on == "held_out" else None
    return recorded, device == job.facts.get("device", device)


def _request(workspace: Workspace, tokens: TokenSet) -> dict[str, Any]:
    """Return where a fresh process finds what an export is compared with (see `workers.runtime.reload`)."""
    return {
        "model_folder": workspace.model_folder,
        "cache_folder": workspace.cache_folder,
        "model_digest": workspace.model_digest,
        "tokens": tokens.to_json(),
        "device": workspace.device,
    }


def _device(job: Job, tell: Tell) -> Device:
    """Return what to verify on: what the job computed on, where that is here."""
    recorded = job.facts.get("device")
    device: Device = "cpu" if recorded == "cpu" else device_here()
    if recorded not in (None, device):
        tell("verify: the job computed on GPUs and none is here; its KL is compared within what rounding changes")
    return device


def _make_missing(workspace: Workspace, source: Source, tokens: TokenSet) -> None:
    """Make what is not here, because other nodes have it in folders of their own: the same bytes again."""
    from workers.worker import Worker

    worker, task = Worker(workspace), Evaluate(tokens, source.plan, "held_out")
    if Path(tokens.path).exists() and worker.lacks(task):  # without its text there is nothing to make it of
        worker.provide(task)


def _is_recovered(
    recovery: "Recovery",
    wish: bool | None,  # noqa: FBT001 (one of three)
    source: Source,
    tokens: TokenSet,
    device: Device,
    tell: Tell,
) -> bool:
    """Tell whether to recover: as wished, else wherever it can help and both models fit into memory."""
    if wish is False or not recovery.can_help(source.inventory, source.plan):
        return False
    name, count = recovery.name, recovery.num_tokens(tokens)
    needed, free = recovery.needed_bytes(source.inventory, count, device), free_bytes(device)
    if wish is None and needed > free:
        told = f"it takes {format_bytes(needed)} of memory and {format_bytes(free)} are free; --{name} tries it"
        tell(f"{name}: left out, since {told}")
        return False
    minutes = max(1, round(recovery.estimated_seconds(source.inventory, count) / 60))
    tell(f"{name}: about {minutes} min on one core; --no-{name} leaves it out")
    return True


def _recover(recovery: "Recovery", workspace: Workspace, source: Source, tokens: TokenSet, tell: Tell) -> "Recovered":
    from workers.recover.recovery import recover_if_better

    def progress(done: int, blocks: int) -> None:
        tell(f"{recovery.name}: block {done} of {blocks}")

    return recover_if_better(recovery, workspace, source.plan, tokens, progress)
