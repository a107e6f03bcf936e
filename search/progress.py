"""How a search goes, told from its records: hypervolume, best KL under the budget, and what more memory would buy."""

from collections.abc import Mapping, Sequence
from typing import Any

from search.contenders import whole_text_trials
from search.observation import UNIFORM
from space.document import FrontDocument
from space.front import front_hypervolume
from space.price import marginal_price
from storage.records import Job, Trial

Step = tuple[int, dict[str, float]]


def metrics_of(
    points: Sequence[tuple[float, float]],
    reference_point: tuple[float, float] | None,
    smallest_bytes: float,
    budget_bytes: int,
) -> dict[str, float]:
    """Return the metrics of (bytes, KL) points measured so far.

    `marginal_step_bytes` more than the best point under the budget would lower KL by `marginal_kl_drop`.
    """
    metrics = {}
    if reference_point is not None:
        metrics["hypervolume"] = front_hypervolume(points, reference_point, smallest_bytes)
    fitting = [kl for size, kl in points if size <= budget_bytes]
    if fitting:
        metrics["best_kl_under_budget"] = min(fitting)
    if (price := marginal_price(points, budget_bytes)) is not None:
        metrics["marginal_step_bytes"] = float(price.step_bytes)
        metrics["marginal_kl_drop"] = price.kl_divergence_drop
    return metrics


def job_metrics(job: Job, trials: Sequence[Trial]) -> dict[str, float]:
    """Return the metrics of a job as its records tell them now, in whatever process it runs; empty before a front."""
    usable = whole_text_trials(trials)
    budget = _budget_bytes(job.facts, job.document)
    if not usable or budget is None:
        return {}
    points = [(float(t.size_bytes), t.measurement.kl_divergence) for t in usable if t.measurement]
    anchors = [p for t, p in zip(usable, points, strict=True) if t.origin == UNIFORM]
    reference = (max(size for size, _ in anchors), max(kl for _, kl in anchors)) if anchors else None
    smallest = job.facts.get("smallest_bytes") or min(size for size, _ in points)
    return metrics_of(points, reference, smallest, budget)


def _budget_bytes(facts: Mapping[str, Any], document: FrontDocument | None) -> int | None:
    found = facts.get("budget_bytes")
    return int(found) if found is not None else document.budget_bytes if document is not None else None


def progress_of(document: FrontDocument, trials: Sequence[Trial], stride: int = 8) -> list[Step]:
    """Return (trials done, metrics) pairs over a finished search, one every `stride` trials and at its end."""
    usable = {t.number for t in whole_text_trials(trials)}
    smallest = min((t.size_bytes for t in trials if t.number in usable), default=0)
    steps: list[Step] = []
    points: list[tuple[float, float]] = []
    for count, trial in enumerate(trials, start=1):
        if trial.number in usable and trial.measurement is not None:
            points.append((float(trial.size_bytes), trial.measurement.kl_divergence))
        if points and (count % stride == 0 or count == len(trials)):
            metrics = metrics_of(points, document.reference_point, smallest, document.budget_bytes)
            steps.append((count, {"trials_done": float(count), **metrics}))
    return steps
