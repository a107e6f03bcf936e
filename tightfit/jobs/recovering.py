"""One recovery from its record to its point: the searched model is found, its values are made better, and judged."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from search.measure.answer_keys import text_request
from space.budget import format_bytes
from space.errors import LevelDamagedError, SpecError, StoreError
from space.measurement import Measurement
from space.plan import Plan
from space.recover_options import RecoverOptions
from space.results.document import Ancestry, Comparison, FrontPoint
from space.results.front import bootstrap_interval, paired_interval
from storage.point_tasks import PointTask
from storage.records import Job
from storage.sound_records import ground_of, reading
from tightfit.export.making import Steps
from tightfit.searched_model import searched_folder
from workers.devices import Device, device_here
from workers.families.read_inventory import inspect_searched
from workers.levels.level_store import LevelStore
from workers.recover.recovered_folder import place_of
from workers.recover.recovery import Lesson, Recovered, Recovery, Text, Values, recover_if_better
from workers.recover.recovery_table import RECOVERIES, recovery_of
from workers.recover.training_text import NUM_SEQUENCES, training_text
from workers.run.memory_limits import free_bytes
from workers.tasks import Evaluate, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker

_HELPLESS_KL = 5e-4  # nats: what 8-bit levels lose, which no recovery makes measurably less
_PAYS = 0.02  # the share of its KL that what helps must take off a point for the next, dearer one to be tried


@dataclass(frozen=True, slots=True)
class _Origin:
    """A point as it was chosen."""

    job: Job
    options: RecoverOptions
    workspace: Workspace
    plan: Plan
    tokens: TokenSet
    values: Values


def run_recovery(job: Job, task: PointTask, plan: Plan, steps: Steps) -> dict[str, Any]:
    """Recover a point; return what came of it: its new point, where one was kept, and each recovery's figures.

    Raises:
        ModelError: the searched model has gone or changed.
        CalibrationError: there is too little text to learn from.
        SpecError: the recovery cannot do anything for this plan.

    """
    if task.result is not None:
        return task.result
    with reading(f"Task {task.task_id}"):
        options = RecoverOptions.from_json(task.options)
    origin = _found(job, options, plan)
    kl = options.point.kl_divergence
    if kl < _HELPLESS_KL:
        told = f"{options.point.point} cannot be helped: its KL is {kl:.6f} nats, too little to be made measurably less"
        return _kept(steps, {"point": None, "recoveries": [], "told": told})
    done = list(_recoveries(origin, steps))
    point = _point(task, origin, done) if any(found.kept for found in done) else None
    return _kept(steps, {"point": point, "recoveries": [_figures(found) for found in done], "told": _told(done)})


def _kept(steps: Steps, result: dict[str, Any]) -> dict[str, Any]:
    steps.tell(result["told"])
    steps.keep(result)
    return result


def _found(job: Job, options: RecoverOptions, plan: Plan) -> _Origin:
    """Find all that a recovery stands on."""
    ground, folder = ground_of(job), searched_folder(job)
    tokens = TokenSet.from_json(ground.tokens.to_json())
    device = "cpu" if job.facts.device == "cpu" else device_here()
    inventory = inspect_searched(folder, [name for name, _ in plan.levels])
    workspace = Workspace(str(folder), ground.cache_folder, ground.model_digest, inventory, device=device)
    values = values_of(options.point, tokens, folder, Path(ground.cache_folder))
    store = LevelStore(Path(ground.cache_folder) / "levels", ground.model_digest, values.tokens.of("calibration"))
    if options.point.recovered is None:
        worker, task = Worker(workspace), Evaluate(tokens, plan, "held_out")
        if worker.lacks(task):
            worker.provide(task)
    check_there(options.point, values, store, plan)
    return _Origin(job, options, workspace, plan, tokens, values)


def values_of(point: FrontPoint, tokens: TokenSet, model_folder: Path, cache_folder: Path) -> Values:
    """Return where the values of a point are: those that the search measured, or recovered ones."""
    if (found := point.recovered) is None:
        return Values(tokens, str(model_folder))
    named = TokenSet(tokens.path, tokens.note, (found.levels, *tokens.digests[1:]))
    return Values(named, str(place_of(cache_folder, found.levels) if found.others else model_folder))


def check_there(point: FrontPoint, values: Values, store: LevelStore, plan: Plan) -> None:
    """Raise StoreError where files of a recovered point have gone: they follow from no record."""
    if point.recovered is not None and (store.missing(plan) or not Path(values.model_folder).exists()):
        raise StoreError(
            f"The values of {point.point} have gone from the cache, where task {point.recovered.task} had put them: "
            "`tightfit recover` makes them again."
        )


def levels_there(job: Job, point: FrontPoint, plan: Plan, device: Device = "cpu") -> tuple[Values, LevelStore]:
    """Return the values of a point and the store of its levels, all of which are here.

    Raises:
        LevelDamagedError: some are not.
        ModelError: the searched model has gone or changed.
        StoreError: files of a recovered point have gone.

    """
    ground, cache = ground_of(job), Path(ground_of(job).cache_folder)
    values = values_of(point, TokenSet.from_json(ground.tokens.to_json()), searched_folder(job), cache)
    levels = LevelStore(cache / "levels", ground.model_digest, values.tokens.of("calibration"), device)
    check_there(point, values, levels, plan)
    if missing := levels.missing(plan):
        raise LevelDamagedError(
            f"{len(missing)} levels of this point are not in {cache}, such as {missing[0][1]} of {missing[0][0]}: "
            f"`tightfit resume {job.job_id}` builds them again.",
            missing[0][0],
        )
    return values, levels


def _recoveries(origin: _Origin, steps: Steps) -> Iterator[Recovered]:
    """Yield what each recovery came to: the one that was asked for, or one after the other while they pay."""
    options, values = origin.options, origin.values
    chosen = [recovery_of(options.method)] if options.method else list(RECOVERIES.values())
    before: Measurement | None = None
    has_helped = False
    for number, recovery in enumerate(chosen):
        if why := _refusal(recovery, origin, values):
            if options.method:
                raise SpecError(f"--method {recovery.name}: {why}.")
            continue
        if not _has_room(recovery, origin, steps):
            continue
        share = number / len(chosen), 1 / len(chosen)
        found = recover_if_better(recovery, _lesson(origin, values, steps, share), before)
        yield found
        values, before = found.values, found.after if found.kept else found.before
        has_helped = has_helped or found.kept
        if has_helped and not (found.kept and found.kl_after <= (1 - _PAYS) * found.kl_before):
            return


def _refusal(recovery: Recovery, origin: _Origin, values: Values) -> str | None:
    """Return why a recovery cannot begin here."""
    if not recovery.can_help(origin.workspace.inventory, origin.plan):
        return f"it finds nothing to change in {origin.options.point.point}"
    if not recovery.goes_on and values != Values(origin.tokens, origin.workspace.model_folder):
        return f"it begins with what the search measured, and {origin.options.point.point} was recovered already"
    return None


def _has_room(recovery: Recovery, origin: _Origin, steps: Steps) -> bool:
    """Tell what a recovery takes, and whether to try it: as wished, else where memory holds it."""
    inventory, device, count = origin.workspace.inventory, origin.workspace.device, recovery.num_tokens(origin.tokens)
    needed, free = recovery.needed_bytes(inventory, count, device), free_bytes(device)
    minutes = max(1, round(recovery.estimated_seconds(inventory, count) / 60))
    told = f"{recovery.name}: about {minutes} min on one core, and {format_bytes(needed)} of memory"
    if needed > free and origin.options.method is None:
        steps.tell(f"{told}, of which {format_bytes(free)} are free: left out; --method {recovery.name} tries it")
        return False
    steps.tell(told)
    return True


def _lesson(origin: _Origin, values: Values, steps: Steps, share: tuple[float, float]) -> Lesson:
    begin, width = share

    def progress(sentence: str, done: float) -> None:
        steps.tell(sentence)
        steps.reach(sentence, begin + width * done)

    options = origin.options
    return Lesson(
        workspace=origin.workspace,
        plan=origin.plan,
        start=values,
        progress=progress,
        text=lambda: _text(origin),
        seed=options.seed,
        max_seconds=None if options.minutes is None else 60 * options.minutes,
        watch=steps.watch,
        look=steps.look,
        processes=options.processes,
        sharding=options.sharding,
        checkpointing=options.checkpointing,
        temperature=options.temperature,
        hard_labels=options.hard_labels,
    )


def _text(origin: _Origin) -> Text:
    """Return what a recovery learns from: more of the job's text, or text of its own."""
    options, request = origin.options, text_request(origin.job.spec)
    is_own = options.text is not None
    request = replace(request, source=options.text or request.source, seed=request.seed + 1 + options.seed)
    return training_text(origin.workspace, origin.tokens, request, NUM_SEQUENCES, is_own=is_own)


def _told_text(origin: _Origin, figures: Mapping[str, Any]) -> str:
    """Return what was learned from, in words, without the place where its file lies."""
    source, told = origin.options.text or origin.job.spec.calibration, str(figures["text"])
    return told.replace(source, Path(source).name) if source else told


def _point(task: PointTask, origin: _Origin, done: list[Recovered]) -> dict[str, Any]:
    """Return the recovered point as JSON: the chosen one with its new figures."""
    options = origin.options
    kept, point, earlier = [found for found in done if found.kept], options.point, options.point.recovered
    first, last = kept[0].before, kept[-1].after
    interval = paired_interval(last.sequence_kl, first.sequence_kl)
    ratio = last.kl_divergence / first.kl_divergence if first.kl_divergence > 0 else None
    figures, values = [found.fitted.figures for found in kept], kept[-1].values
    ancestry = Ancestry(
        task=task.task_id,
        methods=(*(earlier.methods if earlier else ()), *(found.recovery.name for found in kept)),
        levels=values.tokens.of("calibration"),
        others=Path(values.model_folder).name == values.tokens.of("calibration")[:16],
        seed=options.seed,
        steps=sum(int(f.get("steps", 0)) for f in figures) + (earlier.steps if earlier else 0),
        seconds=sum(float(f.get("seconds", 0.0)) for f in figures) + (earlier.seconds if earlier else 0.0),
        text=next((_told_text(origin, f) for f in figures if "text" in f), earlier.text if earlier else None),
        versus_origin=Comparison(point.point, ratio, interval, measurable=interval[1] < 0),
    )
    made = replace(
        point,
        kl_divergence=last.kl_divergence,
        kl_divergence_ci95=bootstrap_interval(last.sequence_kl),
        perplexity=last.perplexity,
        recommended=False,
        versus_next=None,
        versus_uniform=None,
        recovered=ancestry,
        own=None,
    )
    return asdict(made)


def _figures(found: Recovered) -> dict[str, Any]:
    return {
        "method": found.recovery.name,
        "kept": found.kept,
        "kl_before": found.kl_before,
        "kl_after": found.kl_after,
        "difference_ci95": list(found.difference_ci95),
        "failure": found.fitted.failure,
        **found.fitted.figures,
    }


def _told(done: list[Recovered]) -> str:
    if not done:
        return "Nothing was tried: no recovery finds anything to change in this point."
    told = []
    for found in done:
        what = "kept" if found.kept else found.fitted.failure or "not kept: it is not measurably better"
        told.append(f"{found.recovery.name}: KL {found.kl_before:.6f} to {found.kl_after:.6f}, {what}")
    return "; ".join(told)
