"""What a registry shows of an export, as values: its name, tags, params, metrics and the words of its page."""

from space.budget import format_bytes
from space.model_name import model_name
from storage.tracking.contract import Checkpoint
from storage.tracking.run_figures import MIB, rounded


def registered_name(model: str) -> str:
    """Return the registered model of a model that is compressed; MLflow takes no slashes there.

    >>> registered_name("/data/models/tiny-llama/"), registered_name("Qwen/Qwen3-0.6B")
    ('tightfit-tiny-llama', 'tightfit-Qwen-Qwen3-0-6B')
    """
    return "tightfit-" + "".join(c if c.isalnum() or c in "-_" else "-" for c in model_name(model))[:200]


def export_tags(export: Checkpoint) -> dict[str, str]:
    """Return what an export is found by."""
    return {
        "tightfit.export": export.task_id,
        "tightfit.job": export.job.job_id,
        "tightfit.point": export.point,
        "tightfit.target": export.target,
        "tightfit.recommended": str(export.is_recommended).lower(),
        "tightfit.path": export.path[:4000],
    }


def export_params(export: Checkpoint) -> dict[str, str]:
    """Return where its files are and what they must be."""
    found = {"path": export.path[:500], "target": export.target, "budget": export.job.spec.budget}
    return found | {f"sha256 {name}"[:250]: digest for name, digest in sorted(export.digests.items())[:50]}


def export_metrics(export: Checkpoint) -> dict[str, float]:
    """Return what was measured on its files."""
    size = {"export_size_bytes": float(export.size_bytes), "export_size_mib": rounded(export.size_bytes / MIB)}
    return size | {"export_kl_divergence": rounded(export.kl_divergence)}


def registry_note(export: Checkpoint) -> str:
    """Return the description of a registered model."""
    return (
        f"Compressed checkpoints of `{export.job.spec.model.replace('`', '')}` by tightfit. A version names files and "
        "does not hold them; the alias `recommended` is the last export of a recommended point."
    )


def version_note(export: Checkpoint) -> str:
    """Return the description of a version: what it is, where, how it is loaded, how it is checked."""
    metric = export.metric
    what = f"{export.point} of job {export.job.job_id}, {export.target}, {format_bytes(export.size_bytes)}"
    lines = [
        f"**{what}, {metric.symbol} {export.kl_divergence:.4g} {metric.unit}, verified.**",
        f"`{export.path}`",
        "```",
    ]
    lines += [*export.commands, "```", "| file | sha256 |", "|:---|:---|"]
    return "\n".join([*lines, *(f"| {name} | {digest} |" for name, digest in sorted(export.digests.items()))])
