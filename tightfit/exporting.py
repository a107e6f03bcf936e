"""One export from its record to its proof: the searched model is found, the files are made beside and put in place."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from space.cost import plan_bytes
from space.export_options import ExportOptions
from space.plan import Plan
from space.question import KL, QUESTIONS, Metric
from storage.point_tasks import PointTask
from storage.records import Job
from storage.sound_records import ground_of, reading
from tightfit.export.checkpoint import is_written, new_folder, write_papers
from tightfit.export.making import Made, Order, Steps, make_export
from tightfit.export.source import Source
from tightfit.export.targets.writer import Cache, check_companions
from tightfit.export.targets.writer_table import WRITERS
from tightfit.jobs.recovering import check_there, values_of
from tightfit.model_card import Facts, model_card, provenance
from tightfit.origin import origin
from tightfit.searched_model import searched_folder
from workers.devices import Device, device_here
from workers.families.read_inventory import inspect_searched
from workers.levels.level_store import LevelStore
from workers.recover.recovery_table import recovery_of
from workers.tasks import Workspace
from workers.text.tokens import TokenSet

_DIGESTS = "sha256"  # of the weight files, in a task's result


@dataclass(frozen=True, slots=True)
class Exported:
    """A verified export: `size_bytes` is what the weight files' tensors take, `file_bytes` with the header.

    `measured_on` says on which text the recorded KL was measured: "search" while a job has not judged its plans.
    `refit_kl_divergence` is what a refit reached on held-out text, None where none was made; `refitted` tells whether
    it was kept. `runtime` is the target's own runtime where that is installed, and `runtime_kl_divergence` what it
    measured on the same text. `commands` run the files.
    `metric` says what `kl_divergence` stands for. `bytes_by_part` tells where the weights' bytes go, and those of keys
    and values at the job's context and batch; empty where an older version wrote it.
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
    runtime: str | None = None
    runtime_kl_divergence: float | None = None
    commands: tuple[str, ...] = ()
    metric: Metric = KL
    bytes_by_part: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def of_result(result: dict[str, Any]) -> "Exported":
        """Read what came of a task."""
        found = {field.name: result[field.name] for field in fields(Exported) if field.name in result}
        metric = Metric.from_json(found.get("metric"))
        return Exported(**{**found, "commands": tuple(found.get("commands", ())), "metric": metric})


def run_export(job: Job, task: PointTask, plan: Plan, steps: Steps) -> dict[str, Any]:
    """Export a plan; return what came of it, with the digests of its weight files, once the folder is there.

    Args:
        job: that searched, its files those of this home.
        task: what is exported, and how; a folder that it made before is kept.
        plan: of the task's trial.
        steps: hears how far it is; `keep` records the result before the folder is put in place.

    Raises:
        OutputError: the folder cannot be made.
        ModelError: the searched model has gone or changed.
        VerificationError: the files do not hold what was promised.

    """
    out = Path(task.out)
    if task.result is not None and is_written(out, task.result.get(_DIGESTS)):
        return task.result
    with reading(f"Task {task.task_id}"):
        options = ExportOptions.from_json(task.options)
    folder = searched_folder(job)
    check_companions(folder)
    order = _order(job, options, folder, plan, steps)
    with new_folder(out, task.task_id) as temporary:
        made = make_export(order, temporary, steps)
        _write_papers(job, options, order, made)
        result = {**asdict(_exported(out, job, options, order.source, made)), _DIGESTS: made.written.digests}
        steps.keep(result)
    return result


def _order(job: Job, options: ExportOptions, folder: Path, plan: Plan, steps: Steps) -> Order:
    ground = ground_of(job)
    spec, cache = job.spec, ground.cache_folder
    names = [name for name, _ in plan.levels]
    inventory = inspect_searched(folder, names, spec.context, spec.batch, spec.target)
    digest, device = ground.model_digest, _device(job, steps)
    values = values_of(options.point, TokenSet.from_json(ground.tokens.to_json()), folder, Path(cache))
    store = LevelStore(Path(cache) / "levels", digest, values.tokens.of("calibration"))
    check_there(options.point, values, store, plan)
    return Order(
        source=Source(Path(values.model_folder), inventory, store, plan),
        workspace=Workspace(values.model_folder, cache, digest, inventory, device=device),
        tokens=values.tokens,
        target=options.target,
        recovery=recovery_of(options.recovery),
        is_recovered=options.refit if options.point.recovered is None else False,
        dense_folder=str(folder),
        weight_budget=options.limit_bytes - options.cache_bytes,
        recorded_kl=options.recorded_kl,
        is_same_device=job.facts.device in (None, device),
    )


def _device(job: Job, steps: Steps) -> Device:
    """Return what to verify on: what the job computed on, where that is here."""
    recorded = job.facts.device
    device: Device = "cpu" if recorded == "cpu" else device_here()
    if recorded not in (None, device):
        steps.tell("verify: the job computed on GPUs and none is here; its KL is compared within what rounding changes")
    return device


def _write_papers(job: Job, options: ExportOptions, order: Order, made: Made) -> None:
    source, written = order.source, made.written
    searched = (job, Path(order.dense_folder), source.inventory, options.point, source.plan)
    found = Facts(*searched, order.target, written, made.verified, made.refitted, origin())
    write_papers(written, provenance(found), model_card(found))


def _exported(out: Path, job: Job, options: ExportOptions, source: Source, made: Made) -> Exported:
    inventory = source.inventory
    cache = Cache.of(job.spec.context, job.spec.batch, inventory, source.plan)
    written, verified, refitted = made.written, made.verified, made.refitted
    return Exported(
        path=str(out),
        format=options.target,
        point=options.point.point,
        size_bytes=written.size_bytes,
        file_bytes=written.file_bytes,
        predicted_bytes=written.predicted_bytes,
        budget_bytes=options.limit_bytes,
        kl_divergence=verified.kl_divergence,
        recorded_kl_divergence=options.point.kl_divergence,
        logit_difference=verified.logit_difference,
        verified=True,
        measured_on=options.measured_on,
        refitted=refitted is not None and refitted.kept,
        refit_kl_divergence=None if refitted is None else refitted.kl_after,
        runtime=None if verified.runtime is None else verified.runtime[0],
        runtime_kl_divergence=None if verified.runtime is None else verified.runtime[1],
        commands=tuple(WRITERS[options.target].commands(out, cache)),
        metric=QUESTIONS[inventory.family].metric,
        bytes_by_part=plan_bytes(inventory, source.plan, options.target, cache.context, cache.batch).by_part,
    )
