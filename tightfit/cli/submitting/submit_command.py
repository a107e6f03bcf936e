"""`tightfit submit`: a job from options, a file or a preset; run here, left to others, or only looked at."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from space.errors import UsageError
from tightfit.cli.base import AsJson, Detach, Home, Queue, left, print_json, run_here
from tightfit.cli.submitting import submit_options as asked
from tightfit.places.open_place import open_place

if TYPE_CHECKING:
    from space.spec import JobSpec


def submit(
    ctx: typer.Context,
    model: asked.Model = None,
    budget: asked.Budget = None,
    device_memory: asked.DeviceMemory = None,
    preset: asked.Preset = None,
    config: asked.Config = None,
    context: asked.Context = 0,
    batch: asked.Batch = 1,
    cache_bits: asked.CacheBits = None,
    calibration: asked.Calibration = None,
    judge: asked.Judge = None,
    sequence_length: asked.SequenceLength = None,
    num_sequences: asked.NumSequences = None,
    target: asked.Target = "packed",
    gpu_generation: asked.GpuGeneration = None,
    experts: asked.Experts = "tied",
    bits: asked.Bits = None,
    group_size: asked.GroupSize = None,
    sparsity: asked.Sparsity = None,
    rank: asked.Rank = None,
    kind: asked.Kind = None,
    pin: asked.Pin = None,
    plan: asked.PlanFile = None,
    sampler: asked.Sampler = "front",
    max_trials: asked.MaxTrials = None,
    max_minutes: asked.MaxMinutes = None,
    refine: asked.Refine = False,
    recover: asked.Recover = None,
    workers: asked.NumWorkers = 2,
    worker_memory: asked.WorkerMemory = None,
    seed: asked.Seed = 0,
    like: asked.Like = None,
    dry_run: asked.DryRun = False,
    out: asked.Out = None,
    detach: Detach = False,
    queue: Queue = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Search how to compress MODEL so that it fits BUDGET.

    What is asked is told by options; where none is given by `--config` or `--like`; then by `--preset`.
    """
    from tightfit.cli.submitting.options import ground_of, spec_from_options

    _check_out(out, dry_run=dry_run)
    given = {name for name in ctx.params if getattr(ctx.get_parameter_source(name), "name", "DEFAULT") != "DEFAULT"}
    ground = ground_of(config, preset, None if like is None else open_place(home).spec(like), like)
    spec, sources = spec_from_options(
        model=model, budget=budget, context=context, batch=batch, calibration=calibration, target=target, bits=bits,
        sequence_length=sequence_length, num_sequences=num_sequences, experts=experts, group_size=group_size, rank=rank,
        sparsity=sparsity, kind=kind, pin=pin, sampler=sampler, max_trials=max_trials, max_minutes=max_minutes,
        refine=refine, recover=recover, workers=workers, worker_memory=worker_memory, seed=seed, judge=judge,
        cache_bits=cache_bits, gpu_generation=gpu_generation, device_memory=device_memory, given=given, ground=ground,
    )  # fmt: skip
    spec, sources = _beside(spec, sources, plan)
    if dry_run:
        return _look(spec, sources, out, home, as_json=as_json)
    return _queue_or_run(spec, home, detach=detach, queue=queue, as_json=as_json)


def _check_out(out: Path | None, *, dry_run: bool) -> None:
    if out is not None and not dry_run:
        raise UsageError(f"--out {out}: it writes what --dry-run shows; give both.")


def _beside(spec: "JobSpec", sources: dict[str, str], plan_files: list[str] | None) -> tuple["JobSpec", dict[str, str]]:
    """Return a request with plans of other tools to compare with, and who says what of it."""
    from search.request.plan_files import with_plans

    return (with_plans(spec, plan_files), {**sources, "plans": "--plan"}) if plan_files else (spec, sources)


def _look(spec: "JobSpec", sources: Mapping[str, str], out: Path | None, home: Path | None, *, as_json: bool) -> None:
    """Show what a job would search and cost; write its request where that is asked for."""
    from tightfit.cli.show import show_dry_run

    found = open_place(home, create=False, needed=False).dry_run(spec)
    if out is not None:
        from space.requests.job_document import to_toml
        from workers.bounded_files import user_path
        from workers.whole_files import writing

        path = user_path(out)
        with writing(path, "Give another file with --out."):
            path.write_text(to_toml(found.request), encoding="utf-8")
    print_json(found.to_json()) if as_json else show_dry_run(found, sources)


def _queue_or_run(spec: "JobSpec", home: Path | None, *, detach: bool, queue: bool, as_json: bool) -> None:
    from tightfit.cli.show import show_result

    place = open_place(home, create=True)
    job = place.submit(spec).overview
    if detach or queue:
        text = left(place, job.job_id, home, detach=detach)
        print_json({"job": job.job_id, "state": str(job.state)}) if as_json else print(text)
        return
    run_here(place, job.job_id, home)
    document = place.front(job.job_id)
    print_json(document.to_json()) if as_json else show_result(document, home)
