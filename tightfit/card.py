"""The model card and the provenance record of an export."""

import platform
from importlib.metadata import version
from typing import Any

from space.budget import format_bytes
from space.cost import Target
from space.document import FrontDocument, FrontPoint
from space.plan import Plan
from storage.records import Job
from tightfit.export.formats import FORMATS

_LIBRARIES = ("torch", "transformers", "safetensors", "compressed-tensors", "optuna", "ray")


def provenance(job: Job, document: FrontDocument, point: FrontPoint, plan: Plan, target: Target) -> dict[str, Any]:
    """Return what `compression.json` holds: plan, seeds, digests, versions and what was measured."""
    return {
        "schema_version": 1,
        "job": job.job_id,
        "point": point.point,
        "trial": point.trial,
        "format": target,
        "plan": plan.to_json(),
        "plan_digest": plan.digest,
        "spec": job.spec.model_dump(mode="json"),
        "seed": job.spec.seed,
        "model_digest": job.facts.get("model_digest"),
        "tokens_digests": job.facts.get("tokens", {}).get("digests"),
        "text": job.facts.get("tokens", {}).get("note"),
        "measured_on": document.measured_on,
        "kl_divergence": point.kl_divergence,
        "kl_divergence_ci95": list(point.kl_divergence_ci95),
        "perplexity": point.perplexity,
        "dense_perplexity": document.dense.perplexity,
        "versions": {"python": platform.python_version(), "tightfit": version("tightfit")}
        | {name: version(name) for name in _LIBRARIES},
    }


def model_card(job: Job, document: FrontDocument, point: FrontPoint, target: Target) -> str:
    """Return README.md of an export."""
    low, high = point.kl_divergence_ci95
    return f"""---
tags: [compression, tightfit]
---
# {job.spec.model}, compressed to {format_bytes(point.size_bytes)}

Point {point.point} of tightfit job {document.job}: {point.bits_per_weight:.3f} bits per weight, everything stored
counted. Every module has its own level; `compression.json` lists them with seeds, digests and versions.

| | dense | this checkpoint |
|---|---|---|
| size in bytes | {document.dense.size_bytes:,} | {point.size_bytes:,} |
| perplexity ({document.measured_on} text) | {document.dense.perplexity:.4f} | {point.perplexity:.4f} |
| KL divergence to dense, nats per token | 0 | {point.kl_divergence:.6f} (95 % {low:.6f} to {high:.6f}) |

Format `{target}`; it needs {FORMATS[target].needs}.

```python
{"import tightfit.hf" if target == "packed" else "import compressed_tensors"}
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("this folder")
tokenizer = AutoTokenizer.from_pretrained("this folder")
```
"""
