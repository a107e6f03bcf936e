"""How a search goes, told from its records: hypervolume, best KL under the budget, and what more memory would buy."""

from collections.abc import Sequence
from itertools import groupby

from search.decide.contenders import whole_text_trials
from search.decide.observation import UNIFORM
from space.results.front import Point, front_hypervolume, non_dominated
from space.results.price import marginal_price
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


class Progress:
    """The metrics of a search as its trials end; only the front is kept, which is all that they depend on."""

    def __init__(self, budget_bytes: int, smallest_bytes: int | None = None) -> None:
        """Begin without trials; where the smallest plan is not known, the smallest measured one stands for it."""
        self._budget_bytes, self._smallest_bytes = budget_bytes, smallest_bytes
        self.num_trials = 0
        self._front: list[Point] = []
        self._reference: Point | None = None

    def add(self, trials: Sequence[Trial]) -> None:
        """Take the next trials; those without an end, or measured on a part of the text, only count."""
        self.num_trials += len(trials)
        for trial in whole_text_trials(trials):
            assert trial.measurement is not None  # noqa: S101 (that is how they are chosen)
            point = float(trial.size_bytes), trial.measurement.kl_divergence
            self._front.append(point)
            if trial.origin == UNIFORM:
                size, kl = self._reference or point
                self._reference = max(size, point[0]), max(kl, point[1])
        self._front = [self._front[i] for i in non_dominated(self._front)]

    def metrics(self) -> dict[str, float]:
        """Return the trials done, and once there is a front its metrics."""
        done = {"trials_done": float(self.num_trials)}
        if not self._front:
            return done
        smallest = self._smallest_bytes or self._front[0][0]
        return done | metrics_of(self._front, self._reference, smallest, self._budget_bytes)


def _budget_bytes(job: Job) -> int | None:
    if job.facts.budget_bytes is not None:
        return job.facts.budget_bytes
    return None if job.document is None else job.document.budget_bytes


def progress_of(job: Job, trials: Sequence[Trial]) -> list[Step]:
    """Return (trials done, metrics) after each batch that has ended, as the job's listener was told them."""
    budget = _budget_bytes(job)
    if budget is None:
        return []
    progress, steps = Progress(budget, job.facts.smallest_bytes), []
    for _, batch in groupby(trials, key=lambda t: t.sampler_state.batch):
        ended = list(batch)
        if all(t.state.is_finished for t in ended):
            progress.add(ended)
            steps.append((progress.num_trials, progress.metrics()))
    return steps
