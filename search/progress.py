"""How a search went, told again from its records: hypervolume and best KL under the budget after each trial."""

from collections.abc import Sequence

from search.contenders import whole_text_trials
from space.document import FrontDocument
from space.front import front_hypervolume
from storage.records import Trial

Step = tuple[int, dict[str, float]]


def metrics_of(
    points: Sequence[tuple[float, float]],
    reference_point: tuple[float, float] | None,
    smallest_bytes: float,
    budget_bytes: int,
) -> dict[str, float]:
    """Return the metrics of (bytes, KL) points measured so far."""
    metrics = {}
    if reference_point is not None:
        metrics["hypervolume"] = front_hypervolume(points, reference_point, smallest_bytes)
    fitting = [kl for size, kl in points if size <= budget_bytes]
    if fitting:
        metrics["best_kl_under_budget"] = min(fitting)
    return metrics


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
