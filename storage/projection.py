"""What a tracking server shows of a job, as values: params, points, the answer in words, the table of trials."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, log10
from pathlib import PurePath
from typing import Any

from space.addresses import without_password
from space.budget import format_bytes
from space.digest import digest
from space.document import FrontDocument, FrontPoint
from space.measurement import Measurement
from storage.mlflow_view import pareto_link
from storage.records import Job, Trial

MIB = 2**20
FRONT_COLOR, RECOMMENDED_COLOR = "#2563eb", "#e8590c"
UNIFORM_COLOR, DENSE_COLOR = "#9aa0a6", "#3c4043"
TABLE_COLUMNS = (
    *("trial", "origin", "state", "size_mib", "size_bytes", "kl_divergence", "perplexity"),
    *("held_out_kl_divergence", "held_out_perplexity", "seconds", "plan", "reason"),
)
_MAX_PARAM_CHARACTERS = 500
_MAX_NOTE_CHARACTERS = 2000
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Point:
    """One child run: a front point, a uniform plan or the dense model."""

    name: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def digest(self) -> str:
        """Return the digest of everything shown."""
        return digest(asdict(self))


def experiment_name(model: str) -> str:
    """Return the experiment of a model: a folder is known by its last name.

    >>> experiment_name("/data/models/tiny-llama/"), experiment_name("Qwen/Qwen3-0.6B")
    ('tightfit/tiny-llama', 'tightfit/Qwen/Qwen3-0.6B')
    """
    is_folder = model.startswith(("/", "./", "../", "~"))
    name = PurePath(model).name if is_folder else model
    return "tightfit/" + "".join(c if c.isalnum() or c in "-_./" else "-" for c in name)[:200]


def params(job: Job) -> dict[str, str]:
    """Return the request, one param per field; MLflow would cut long values in silence, so they are cut here."""
    values = job.spec.model_dump(mode="json")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return {
        key: text if len(text) <= _MAX_PARAM_CHARACTERS else text[: _MAX_PARAM_CHARACTERS - 1] + "…"
        for key, text in texts.items()
        if text not in ("null", "", "[]")
    }


def summary_metrics(document: FrontDocument) -> dict[str, float]:
    """Return the figures of the parent run that compare jobs with each other."""
    metrics = {
        "budget_mib": document.budget_bytes / MIB,
        "front_points": len(document.front),
        "front_hypervolume": document.hypervolume,
        "token_forwards": document.cost.token_forwards,
        "wall_seconds": document.cost.wall_seconds,
    }
    best = document.recommended
    if best is not None:
        metrics |= {"recommended_size_mib": best.size_bytes / MIB, "recommended_kl_divergence": best.kl_divergence}
    return {name: rounded(value) for name, value in metrics.items() if isfinite(value)}


def points(document: FrontDocument) -> list[Point]:
    """Return the child runs, by rising size: front, uniform plans and the dense model."""
    found = [(d.size_bytes, _front_point(document.job, d)) for d in document.front]
    for u in document.uniform:
        metrics = _point_metrics(u.size_bytes, u.kl_divergence, u.perplexity)
        tags = _tags(document.job, "uniform", u.level, UNIFORM_COLOR, pareto=False)
        found.append((u.size_bytes, Point(f"uniform {u.level}", metrics, tags)))
    metrics = _point_metrics(document.dense.size_bytes, 0.0, document.dense.perplexity)
    tags = _tags(document.job, "dense", "dense", DENSE_COLOR, pareto=False)
    found.append((document.dense.size_bytes, Point("dense", metrics, tags)))
    return [point for _, point in sorted(found, key=lambda pair: (pair[0], pair[1].name))]


def note(document: FrontDocument, experiment_id: str) -> str:
    """Return the Markdown description of a job: the answer first, since MLflow folds it after three lines."""
    best = document.recommended
    link = pareto_link("", experiment_id, document.job).partition("/#")[2]
    lines = [f"**No point fits the budget of {format_bytes(document.budget_bytes)}.**"]
    if best is not None:
        low, high = best.kl_divergence_ci95
        lines = [
            (
                f"**Recommended: {best.point}, {format_bytes(best.size_bytes)}, KL {best.kl_divergence:.4g} "
                f"[{low:.4g}, {high:.4g}] nats per token** (budget {format_bytes(document.budget_bytes)})."
            ),
            "",
            f"`tightfit export {document.job} --point {best.point} --out DIR`",
        ]
    lines += [
        "",
        f"[Pareto view of this job](#{link}) · report.html and the plans are under Artifacts.",
        "",
        (
            f"{len(document.front)} front points, {document.cost.trials} trials, measured on "
            f"{document.measured_on.replace('_', '-')} text, target {document.target}, seed {document.seed}."
        ),
    ]
    return "\n".join(lines)


def end_note(job: Job) -> str:
    """Return the Markdown description of a job that ended, as long as no front takes its place."""
    return f"**{job.state}.** {(job.error or '')[:_MAX_NOTE_CHARACTERS]}".rstrip()


def plans(document: FrontDocument, trials: Sequence[Trial]) -> dict[str, dict[str, str]]:
    """Return the plan of each front point, as JSON."""
    by_number = {trial.number: trial.plan for trial in trials}
    return {p.point: by_number[p.trial].to_json() for p in document.front if p.trial in by_number}


def trials_table(trials: Sequence[Trial]) -> dict[str, Any]:
    """Return all trials in the shape of MLflow's table artifacts: columns and rows."""
    return {"columns": list(TABLE_COLUMNS), "data": [_row(trial) for trial in trials]}


def rounded(value: float) -> float:
    """Return a number with six significant digits."""
    return float(f"{value:.{_DIGITS}g}")


def short(reason: str) -> str:
    """Return the first line of a reason, without passwords."""
    lines = without_password(reason).splitlines() or [""]
    return lines[0][:300].rstrip(".")


def _row(trial: Trial) -> list[Any]:
    return [
        trial.number,
        trial.origin,
        str(trial.state),
        rounded(trial.size_bytes / MIB),
        trial.size_bytes,
        *_quality(trial.measurement),
        *_quality(trial.held_out),
        None if trial.measurement is None else _cell(trial.measurement.seconds),
        trial.plan.digest[:12],
        trial.reason,
    ]


def _quality(measurement: Measurement | None) -> tuple[float | None, float | None]:
    if measurement is None:
        return None, None
    return _cell(measurement.kl_divergence), _cell(measurement.perplexity)


def _cell(value: float) -> float | None:
    return rounded(value) if isfinite(value) else None


def _front_point(job_id: str, point: FrontPoint) -> Point:
    metrics = _point_metrics(point.size_bytes, point.kl_divergence, point.perplexity)
    metrics["bits_per_weight"] = rounded(point.bits_per_weight)
    low, high = point.kl_divergence_ci95
    metrics |= {"kl_divergence_low": rounded(low), "kl_divergence_high": rounded(high)}
    tags = _tags(job_id, "front", point.point, RECOMMENDED_COLOR if point.recommended else FRONT_COLOR, pareto=True)
    tags |= {"tightfit.trial": str(point.trial), "tightfit.recommended": str(point.recommended).lower()}
    return Point(f"{point.point} recommended" if point.recommended else point.point, metrics, tags)


def _point_metrics(size_bytes: int, kl_divergence: float, perplexity: float) -> dict[str, float]:
    metrics = {"size_mib": size_bytes / MIB, "kl_divergence": kl_divergence, "perplexity": perplexity}
    if kl_divergence > 0:
        metrics["log10_kl_divergence"] = log10(kl_divergence)
    finite = {name: rounded(value) for name, value in metrics.items() if isfinite(value)}
    return finite | {"size_bytes": float(size_bytes)}


def _tags(job_id: str, kind: str, point: str, color: str, *, pareto: bool) -> dict[str, str]:
    return {
        "tightfit.job": job_id,
        "tightfit.kind": kind,
        "tightfit.point": point,
        "pareto": str(pareto).lower(),
        "mlflow.runColor": color,
    }
