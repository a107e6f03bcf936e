"""The model card and the provenance record of an export: what was verified on its files, and how to use them."""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from space.budget import format_bytes
from space.cost import PlanBytes, parts_told, plan_bytes
from space.inventory import Inventory
from space.model_name import model_name
from space.plan import Plan
from space.question import QUESTIONS, Metric
from space.results.document import Ancestry, FrontPoint
from space.targets.target_table import TARGETS
from storage.records import Job
from tightfit.export.source import Written
from tightfit.export.targets.writer import NO_CACHE, Cache, Program
from tightfit.export.targets.writer_table import WRITERS
from tightfit.export.verify import Verified
from tightfit.origin import Origin
from workers.models.hub import repository_of
from workers.models.model_files import local_folder
from workers.models.source_cards import front_matter, terms_of

if TYPE_CHECKING:
    from workers.recover.recovery import Recovered

_LIBRARIES = ("torch", "transformers", "safetensors", "compressed-tensors", "optuna", "ray")

_OF_TARGETS = {
    "gguf": ("gguf", "libggml-python", "xllamacpp"),
    "mlx": ("mlx", "mlx-lm"),
    "onnx": ("onnx", "onnx-ir", "onnxruntime", "onnxruntime-genai", "onnxscript"),
}
"""target -> what else writes and checks its files"""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that an export's papers tell.

    Attributes:
        job: that searched.
        folder: of the dense model.
        inventory: its modules.
        point: of the job's front.
        plan: the point's.
        target: the container.
        written: the files.
        verified: what a fresh process measured on them, on held-out text.
        refitted: what fitting the plan once more came to, None where that was left out.
        origin: where this program comes from.

    """

    job: Job
    folder: Path
    inventory: Inventory
    point: FrontPoint
    plan: Plan
    target: str
    written: Written
    verified: Verified
    refitted: "Recovered | None"
    origin: Origin


def provenance(facts: Facts) -> dict[str, Any]:
    """Return what `compression.json` holds: plan, seeds, digests, versions and what was measured on the files."""
    job, refitted = facts.job, facts.refitted
    tokens = job.facts.tokens
    record: dict[str, Any] = {
        "schema_version": 1,
        "job": job.job_id,
        "point": facts.point.point,
        "trial": facts.point.trial,
        "format": facts.target,
        "plan": facts.plan.to_json(),
        "plan_digest": facts.plan.digest,
        "spec": _without_places(job, job.spec.model_dump(mode="json") | {"model": _name(facts)}),
        "seed": job.spec.seed,
        "model_digest": job.facts.model_digest,
        "tokens_digests": list(tokens.digests) if tokens else None,
        "text": _without_places(job, tokens.note if tokens else None),
        "measured_on": "held_out",
        "metric": QUESTIONS[facts.inventory.family].metric.with_unit,
        "kl_divergence": facts.verified.kl_divergence,
        "kl_divergence_ci95": list(facts.verified.kl_divergence_ci95),
        "perplexity": facts.verified.perplexity,
        "fast_kernels": facts.verified.fast
        and dict(zip(("logits_range_share", "kl"), facts.verified.fast, strict=True)),
        "dense_perplexity": job.facts.dense_perplexity,
        "bytes": _bytes(facts).by_part,
        "versions": versions(facts.target),
        "repository": {"url": facts.origin.url, "commit": facts.origin.commit, "changed": facts.origin.is_changed},
    }
    if facts.inventory.caches:
        size = _bytes(facts).key_value
        record["key_value_cache"] = {"context": job.spec.context, "batch": job.spec.batch, "size_bytes": size}
    if job.facts.experts is not None:
        record["experts"] = job.facts.experts.to_json()
    if facts.verified.runtime is not None:
        record["runtime"] = dict([facts.verified.runtime])
    if facts.point.recovered is not None:
        record["recovered"] = asdict(facts.point.recovered)
    if refitted is not None:
        kept = {"kept": refitted.kept, "kl_before": refitted.kl_before, "kl_after": refitted.kl_after}
        record[refitted.recovery.name] = kept
    return record


def _cache(facts: Facts) -> Cache:
    return Cache.of(facts.job.spec.context, facts.job.spec.batch, facts.inventory, facts.plan)


def _bytes(facts: Facts) -> PlanBytes:
    """Return where the bytes of the files go, and those of keys and values at the job's context and batch."""
    spec = facts.job.spec
    return plan_bytes(facts.inventory, facts.plan, facts.target, spec.context, spec.batch)


def versions(target: str) -> dict[str, str | None]:
    """Return the versions of Python and of the packages that an export for a target depends on."""
    names = ("tightfit", *_LIBRARIES, *_OF_TARGETS.get(target, ()))
    return {"python": platform.python_version()} | {name: _version(name) for name in names}


def _version(name: str) -> str | None:
    """Return the version of an installed package; None of one that is not, such as tightfit run from its source."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def model_card(facts: Facts) -> str:
    """Return README.md of an export: front matter for the hub, what was measured, how to load it."""
    name, size, verified = _name(facts), facts.written.size_bytes, facts.verified
    low, high = verified.kl_divergence_ci95
    metric = QUESTIONS[facts.inventory.family].metric
    compared = metric.told("KL divergence to dense, nats per token")
    bits = 8 * size / facts.inventory.num_parameters
    return f"""{front_matter(_metadata(facts))}# {name}, compressed to {format_bytes(size)}

Point {facts.point.point} of tightfit job {facts.job.job_id}: {bits:.3f} bits per weight, everything stored counted.
Every module has its own level; `compression.json` lists them with seeds, digests and versions.

| | dense | this checkpoint |
|---|---|---|
| size in bytes | {facts.inventory.dense_bytes:,} | {size:,} |
{_beside(facts, metric)}| {compared} | 0 | {verified.kl_divergence:.6f} (95 % {low:.6f} to {high:.6f}) |

Bytes: {parts_told(_bytes(facts).by_part)}.

Measured on these files, loaded again in a fresh process.{metric.told(_told_of_recovery(facts))}

{_told_of_cache(facts)}## Loading

{WRITERS[facts.target].loading(program_of(facts.origin, facts.inventory.family, _cache(facts)))}
"""


def _told_of_cache(facts: Facts) -> str:
    """Return the section on keys and values that were measured, and are remembered, in fewer bits."""
    held = {c.name: facts.plan[c.name] for c in facts.inventory.caches if not facts.plan[c.name].is_dense}
    if not held:
        return ""
    spec = facts.job.spec
    size = _bytes(facts).key_value
    if not TARGETS[facts.target].holds_caches_apart:
        return f"""## Key/value cache

What is above was measured with keys and values of all layers in {facts.plan.cache_level.bits} bits
(`{facts.plan.cache_level}`), which the runtime must be told as below: it then makes a cache of {size:,} bytes of
{spec.batch} x {spec.context} tokens, beside the weights. Without being told it keeps them in its own type, in more
memory.

"""
    rows = "\n".join(f"| {name} | {level.bits} |" for name, level in held.items())
    return f"""## Key/value cache

What is above was measured with keys and values in the bits below, which the loaded model keeps without being told:
`generate` makes a cache of {size:,} bytes of {spec.batch} x {spec.context} tokens, beside the weights. Each head of
each token has its own step and least value (two bytes each); a token is rounded once, when it comes, and none is kept
in more bits for a while. What is not listed stays in the model's type.

| keys or values | bits |
|---|---|
{rows}

"""


def _beside(facts: Facts, metric: Metric) -> str:
    """Return the row of the second number; nothing where the metric has none."""
    if metric.beside is None:
        return ""
    perplexity = facts.job.facts.dense_perplexity
    dense = "" if perplexity is None else f"{perplexity:.4f}"
    return f"| {metric.beside} (held-out text) | {dense} | {facts.verified.perplexity:.4f} |\n"


def _metadata(facts: Facts) -> dict[str, Any]:
    """Return the front matter: only what is known."""
    repository = _repository(facts)
    base = {} if repository is None else {"base_model": repository, "base_model_relation": "quantized"}
    known = {
        "library_name": WRITERS[facts.target].library,
        "pipeline_tag": QUESTIONS[facts.inventory.family].task,
        "tags": ["compression", "tightfit"],
    }
    return {**base, **known, **terms_of(facts.folder)}


def _repository(facts: Facts) -> str | None:
    """Return the model's name on the hub, where it is one of the hub's."""
    is_hub_name = local_folder(facts.job.spec.model) is None
    return facts.job.spec.model.partition("@")[0] if is_hub_name else repository_of(facts.folder)


def _name(facts: Facts) -> str:
    """Return how to call the model to others: never where it lies on this machine."""
    return _repository(facts) or model_name(facts.job.spec.model)


def _without_places(job: Job, value: Any) -> Any:
    """Return a JSON value whose texts call the job's own files by their names alone."""
    if isinstance(value, dict):
        return {key: _without_places(job, inner) for key, inner in value.items()}
    for source in filter(None, (job.spec.calibration, job.spec.judge)):
        value = value.replace(source, Path(source).name) if isinstance(value, str) else value
    return value


def _told_of_ancestry(found: Ancestry) -> str:
    origin = found.versus_origin
    ratio = "" if origin.ratio is None else f", to {origin.ratio:.3f} of {origin.other}'s KL"
    text = f"; {found.text}" if found.text else ""
    return (
        f"\nIts values were made better after the search, in the same bytes{ratio}: {', then '.join(found.methods)} "
        f"({found.steps} steps, seed {found.seed}{text})."
    )


def _told_of_recovery(facts: Facts) -> str:
    refitted = facts.refitted
    if facts.point.recovered is not None:
        return _told_of_ancestry(facts.point.recovered)
    if refitted is None or not refitted.kept:
        return ""
    return (
        f"\nThe point was {refitted.recovery.done}: KL {refitted.kl_before:.6f} before, "
        f"{refitted.kl_after:.6f} as exported.{_told_of_others(facts)}"
    )


def _told_of_others(facts: Facts) -> str:
    """Return one sentence about what a refit leaves as the search measured it: it fits plain layers of blocks."""
    others = [m for m in facts.inventory.modules if m.block is not None and not m.is_layer]
    left = sum(not facts.plan[m.name].is_dense for m in others)
    if not left:
        return ""
    return (
        f" Of its sites {left}, experts' projections and others that are no plain layer's weight, stayed as they were."
    )


def program_of(origin: Origin, family: str, cache: Cache = NO_CACHE) -> Program:
    """Return where the program that wrote an export is installed from, and what models of a family load with."""
    from workers.families.family_table import FAMILIES

    source = f"git+{origin.url or 'URL-OF-ITS-REPOSITORY'}{f'@{origin.commit}' if origin.commit else ''}"
    told = " (that commit, with changes that are in no repository)" if origin.is_changed else ""
    told += "" if origin.url else ", whose address the installation that wrote this did not know"
    return Program(source, told, FAMILIES[family].loader, QUESTIONS[family].reader, cache)
