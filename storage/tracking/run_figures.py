"""What a tracking server shows of a job, as values: params, points, the answer in words, the table of trials."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite, log10
from typing import Any

from space.digest import digest
from space.measurement import Measurement
from space.model_name import model_name
from space.parsing.addresses import without_password
from space.plan import Plan
from space.results.document import FrontDocument, FrontPoint, UniformPoint
from space.results.own_score import OwnScore
from storage.records import Job, Trial
from storage.tracking.contract import Front
from storage.tracking.mlflow_view import LOG_KL
from storage.tracking.run_notes import PLAN_FILE, Shelf, ShownJob, dense_note, front_note, plan_params, uniform_note

MIB = 2**20
FRONT_COLOR, RECOMMENDED_COLOR = "#2563eb", "#e8590c"
UNIFORM_COLOR, DENSE_COLOR = "#9aa0a6", "#3c4043"
TABLE_COLUMNS = (
    *("trial", "origin", "state", "size_mib", "size_bytes", "kl_divergence", "perplexity"),
    *("held_out_kl_divergence", "held_out_perplexity", "seconds", "plan", "reason"),
)
_MAX_PARAM_CHARACTERS = 500
_DIGITS = 6
_MAX_DIGEST = 36  # characters that MLflow keeps of a dataset's digest


@dataclass(frozen=True, slots=True)
class Point:
    """One child run: a front point, a uniform plan or the dense model.

    Attributes:
        name: of the run.
        metrics: its figures.
        tags: what it is and whose.
        note: its description; OWN_RUN stands in it for the run's id.
        params: what its plan is like, where that is known.
        files: its artifacts, name -> text.
        rank: its place by size, the smallest first.

    """

    name: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    note: str
    params: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    rank: int = 0

    @property
    def digest(self) -> str:
        """Return the digest of everything shown."""
        return digest(asdict(self))


@dataclass(frozen=True, slots=True)
class Text:
    """One text of a job: a dataset to MLflow."""

    name: str
    digest: str
    source: str
    context: str


def experiment_name(model: str) -> str:
    """Return the experiment of a model: a folder is known by its last name.

    >>> experiment_name("/data/models/tiny-llama/"), experiment_name("Qwen/Qwen3-0.6B")
    ('tightfit/tiny-llama', 'tightfit/Qwen/Qwen3-0.6B')
    """
    return "tightfit/" + "".join(c if c.isalnum() or c in "-_./" else "-" for c in model_name(model))[:200]


def params(job: Job) -> dict[str, str]:
    """Return the request, one param per field; MLflow would cut long values in silence, so they are cut here."""
    values = job.spec.model_dump(mode="json")
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    return {
        key: text if len(text) <= _MAX_PARAM_CHARACTERS else text[: _MAX_PARAM_CHARACTERS - 1] + "…"
        for key, text in texts.items()
        if text not in ("null", "", "[]")
    }


def texts(job: Job) -> list[Text]:
    """Return the texts of a job, once they are known: what levels were made with, searched and judged on."""
    kept, source = job.facts.tokens, without_password(job.spec.calibration or "sampled from the model")
    if kept is None:
        return []
    contexts = ("calibration", "search", "held_out")
    return [
        Text(f"{model_name(source)[:400]} ({context})", found[:_MAX_DIGEST], source, context)
        for context, found in zip(contexts, kept.digests, strict=True)
    ]


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


def points(document: FrontDocument, trials: Sequence[Trial], shelf: Shelf) -> list[Point]:
    """Return the child runs, by rising size: front, uniform plans and the dense model."""
    by_number = {trial.number: trial.plan for trial in trials}
    found = [(p.size_bytes, _front_point(document, p, by_number.get(p.trial), shelf)) for p in document.front]
    found += [(u.size_bytes, _uniform_point(document, u, trials, shelf)) for u in document.uniform]
    found.append((document.dense.size_bytes, _dense_point(document, shelf)))
    ordered = sorted(found, key=lambda pair: (pair[0], pair[1].name))
    return [replace(point, rank=rank) for rank, (_, point) in enumerate(ordered)]


def plans(front: Front) -> dict[str, dict[str, str]]:
    """Return the plan of each front point, as JSON."""
    by_number = {trial.number: trial.plan for trial in front.trials}
    return {p.point: by_number[p.trial].to_json() for p in front.document.front if p.trial in by_number}


def shown_job(job_id: str, params: Mapping[str, str], metrics: Mapping[str, float]) -> ShownJob:
    """Return a job as its experiment lists it, from what its run holds."""
    size, kl = metrics.get("recommended_size_mib"), metrics.get("recommended_kl_divergence")
    answer = "" if size is None or kl is None else f"{size:.4g} MiB, KL {kl:.4g}"
    return ShownJob(job_id, params.get("budget", ""), answer)


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


def _front_point(document: FrontDocument, point: FrontPoint, plan: Plan | None, shelf: Shelf) -> Point:
    metrics = _point_metrics(point.size_bytes, point.kl_divergence, point.perplexity, point.own)
    metrics["bits_per_weight"] = rounded(point.bits_per_weight)
    low, high = point.kl_divergence_ci95
    metrics |= {"kl_divergence_low": rounded(low), "kl_divergence_high": rounded(high)}
    color = RECOMMENDED_COLOR if point.recommended else FRONT_COLOR
    tags = _tags(document.job, "front", point.point, color, shelf) | {"tightfit.trial": str(point.trial)}
    tags |= {"tightfit.recommended": str(point.recommended).lower()}
    name = f"{point.point} recommended" if point.recommended else point.point
    return _with_plan(Point(name, metrics, tags, front_note(document, point, plan, shelf)), plan)


def _uniform_point(document: FrontDocument, point: UniformPoint, trials: Sequence[Trial], shelf: Shelf) -> Point:
    alike = [t.plan for t in trials if t.size_bytes == point.size_bytes and point.level in t.plan.texts]
    plan = alike[0] if alike else None
    metrics = _point_metrics(point.size_bytes, point.kl_divergence, point.perplexity, point.own)
    tags = _tags(document.job, "uniform", point.level, UNIFORM_COLOR, shelf)
    return _with_plan(Point(f"uniform {point.level}", metrics, tags, uniform_note(document, point, plan, shelf)), plan)


def _dense_point(document: FrontDocument, shelf: Shelf) -> Point:
    metrics = _point_metrics(document.dense.size_bytes, 0.0, document.dense.perplexity, document.dense.own)
    tags = _tags(document.job, "dense", "dense", DENSE_COLOR, shelf)
    return Point("dense", metrics, tags, dense_note(document, shelf))


def _with_plan(point: Point, plan: Plan | None) -> Point:
    if plan is None:
        return point
    return replace(point, params=plan_params(plan), files={PLAN_FILE: json.dumps(plan.to_json(), indent=1)})


def _point_metrics(size_bytes: int, kl_divergence: float, perplexity: float, own: OwnScore | None) -> dict[str, float]:
    metrics = {"size_mib": size_bytes / MIB, "kl_divergence": kl_divergence, "perplexity": perplexity}
    if kl_divergence > 0:
        metrics[LOG_KL] = log10(kl_divergence)
    if own is not None:
        metrics |= {"own_agreement": own.agreement, "own_accuracy": own.accuracy}
    finite = {name: rounded(value) for name, value in metrics.items() if isfinite(value)}
    return finite | {"size_bytes": float(size_bytes)}


def _tags(job_id: str, kind: str, point: str, color: str, shelf: Shelf) -> dict[str, str]:
    return {
        "tightfit.job": job_id,
        "tightfit.kind": kind,
        "tightfit.point": point,
        "pareto": str(kind == "front").lower(),
        "mlflow.runColor": color,
        "mlflow.parentRunId": shelf.run_id,
    }
