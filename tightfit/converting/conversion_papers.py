"""The record and the card of a plan that was applied without a search."""

from typing import Any

from space.budget import format_bytes
from space.model_name import model_name
from space.question import QUESTIONS
from tightfit.converting.convert_wish import Conversion
from tightfit.export.making import Made
from tightfit.export.targets.writer import Cache
from tightfit.export.targets.writer_table import WRITERS
from tightfit.model_card import program_of, versions
from tightfit.origin import Origin
from workers.models.source_cards import front_matter, terms_of
from workers.text.tokens import TokenSet


def conversion_record(wanted: Conversion, made: Made, tokens: TokenSet, content: str) -> dict[str, Any]:
    """Return what `compression.json` holds: plan, digests, versions and what was measured on the files."""
    verified = made.verified
    record: dict[str, Any] = {
        "schema_version": 1,
        "format": wanted.spec.target,
        "plan": wanted.plan.to_json(),
        "plan_digest": wanted.plan.digest,
        "seed": wanted.spec.seed,
        "model_digest": content,
        "tokens_digests": list(tokens.digests),
        "measured_on": "held_out",
        "metric": QUESTIONS[wanted.inventory.family].metric.with_unit,
        "kl_divergence": verified.kl_divergence,
        "kl_divergence_ci95": list(verified.kl_divergence_ci95),
        "perplexity": verified.perplexity,
        "versions": versions(wanted.spec.target),
    }
    return record if verified.runtime is None else {**record, "runtime": dict([verified.runtime])}


def cache_of(wanted: Conversion) -> Cache:
    """Return the type of key/value cache that the plan has, of no certain size."""
    return Cache.of(0, 1, wanted.inventory, wanted.plan)


def conversion_card(wanted: Conversion, made: Made, origin: Origin) -> str:
    """Return README.md of a conversion."""
    size, verified, target = made.written.size_bytes, made.verified, WRITERS[wanted.spec.target]
    low, high = verified.kl_divergence_ci95
    question = QUESTIONS[wanted.inventory.family]
    compared = question.metric.told("KL divergence to dense, nats per token")
    title = f"# {model_name(wanted.spec.model)}, compressed to {format_bytes(size)}"
    told = {"library_name": target.library, "pipeline_tag": question.task, "tags": ["compression", "tightfit"]}
    return f"""{front_matter({**told, **terms_of(wanted.folder)})}{title}

A given plan, applied by `tightfit convert`; `compression.json` lists the level of every module.

| | dense | this checkpoint |
|---|---|---|
| size in bytes | {wanted.inventory.dense_bytes:,} | {size:,} |
| {compared} | 0 | {verified.kl_divergence:.6f} (95 % {low:.6f} to {high:.6f}) |

Measured on these files, loaded again in a fresh process.

## Loading

{target.loading(program_of(origin, wanted.inventory.family, cache_of(wanted)))}
"""
