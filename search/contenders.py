"""The end of a search: which plans are judged on held-out text, and the front that comes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from search.prepare import Prepared
from space.document import DensePoint, FrontDocument, FrontPoint, SearchCost, UniformPoint
from space.front import bootstrap_interval, front_hypervolume, non_dominated
from space.measurement import Measurement
from storage.records import Job, Trial, TrialState

MAX_CONTENDERS = 12


@dataclass(frozen=True, slots=True)
class Judged:
    """A trial with the measurement it is judged by."""

    trial: Trial
    measurement: Measurement

    @property
    def point(self) -> tuple[float, float]:
        """Return (bytes, KL)."""
        return self.trial.size_bytes, self.measurement.kl_divergence


def whole_text_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials that were measured on the whole search text (probes are not)."""
    return [
        t
        for t in trials
        if t.state is TrialState.COMPLETE and t.measurement and not t.sampler_state.get("num_sequences")
    ]


def choose_contenders(trials: Sequence[Trial], uniform: set[str], budget_bytes: int) -> list[Trial]:
    """Return the trials to judge: uniform plans, and the best of the search front, spread over the sizes.

    The best two that fit the budget and the best at each uniform size are always among them.

    Args:
        trials: all of a job's.
        uniform: digests of the uniform plans.
        budget_bytes: what must be fitted.

    """
    usable = whole_text_trials(trials)
    points = [(float(t.size_bytes), t.measurement.kl_divergence) for t in usable if t.measurement]
    front = [usable[i] for i in non_dominated(points)]
    limits = [budget_bytes, *(t.size_bytes for t in usable if t.plan.digest in uniform)]
    must = {t.number: t for limit in limits if (t := _best_within(front, limit)) is not None}
    if (best := _best_within(front, budget_bytes)) is not None:
        rivals = [t for t in usable if t.number != best.number and t.size_bytes <= budget_bytes]
        must |= {t.number: t for t in sorted(rivals, key=_loss)[:1]}
    for trial in _by_spread(front, set(must)):
        if len(must) >= MAX_CONTENDERS:
            break
        must[trial.number] = trial
    judged = must | {t.number: t for t in usable if t.plan.digest in uniform}
    return [judged[number] for number in sorted(judged)]


def _loss(trial: Trial) -> float:
    return trial.measurement.kl_divergence if trial.measurement else float("inf")


def _best_within(front: Sequence[Trial], limit: int) -> Trial | None:
    fitting = [t for t in front if t.size_bytes <= limit]
    return min(fitting, key=_loss) if fitting else None


def _by_spread(front: Sequence[Trial], taken: set[int]) -> list[Trial]:
    """Return the other trials of a front, each time the one farthest in size from all chosen before."""
    chosen = [t for t in front if t.number in taken]
    left = [t for t in front if t.number not in taken]
    order = []
    while left:
        farthest = max(
            left, key=lambda t: (min((abs(log(t.size_bytes / c.size_bytes)) for c in chosen), default=9.0), -t.number)
        )
        left.remove(farthest)
        chosen.append(farthest)
        order.append(farthest)
    return order


def build_document(
    job: Job, prepared: Prepared, trials: Sequence[Trial], dense_perplexity: float, wall_seconds: float
) -> FrontDocument:
    """Return a job's front: on held-out text where it was measured, else on the search text, and says which."""
    held_out = any(t.held_out for t in trials)
    judged = _judged(trials, held_out=held_out)
    uniform = _uniform_points(prepared, judged)
    front = [judged[i] for i in non_dominated([j.point for j in judged])]
    recommended = _recommend(judged, prepared)
    reference = (
        (float(max(u.size_bytes for u in uniform)), max(u.kl_divergence for u in uniform)) if uniform else (0.0, 0.0)
    )
    smallest = prepared.space.smallest_bytes + prepared.cache_bytes
    measured = [m for t in trials for m in (t.measurement, t.held_out) if m]
    return FrontDocument(
        job=job.job_id,
        state=str(job.state),
        model=job.spec.model,
        target=job.spec.target,
        budget_bytes=prepared.budget_bytes,
        seed=job.spec.seed,
        dense=DensePoint(prepared.inventory.dense_bytes + prepared.cache_bytes, dense_perplexity),
        uniform=uniform,
        front=tuple(_front_point(i, j, prepared, recommended) for i, j in enumerate(front)),
        hypervolume=front_hypervolume([j.point for j in front], reference, smallest),
        reference_point=reference,
        cost=SearchCost(
            sum(m.token_forwards for m in measured), sum(t.state.is_finished for t in trials), wall_seconds
        ),
        measured_on="held_out" if held_out else "search",
    )


def _judged(trials: Sequence[Trial], *, held_out: bool) -> list[Judged]:
    if held_out:
        return [Judged(t, t.held_out) for t in trials if t.held_out]
    return [Judged(t, t.measurement) for t in whole_text_trials(trials) if t.measurement]


def _uniform_points(prepared: Prepared, judged: Sequence[Judged]) -> tuple[UniformPoint, ...]:
    by_digest: Mapping[str, Judged] = {j.trial.plan.digest: j for j in judged}
    found = []
    for level, plan in prepared.space.uniform_plans():
        if (j := by_digest.get(plan.digest)) is not None:
            m = j.measurement
            interval = bootstrap_interval(m.sequence_kl)
            found.append(UniformPoint(str(level), j.trial.size_bytes, m.kl_divergence, interval, m.perplexity))
    return tuple(found)


def _recommend(judged: Sequence[Judged], prepared: Prepared) -> Judged | None:
    """Return the best plan within the budget; uniform plans are judged too, so none that fits is better."""
    fitting = [j for j in judged if j.trial.size_bytes <= prepared.budget_bytes]
    return min(fitting, key=lambda j: (j.measurement.kl_divergence, j.trial.size_bytes)) if fitting else None


def _front_point(index: int, judged: Judged, prepared: Prepared, recommended: Judged | None) -> FrontPoint:
    m = judged.measurement
    weight_bytes = judged.trial.size_bytes - prepared.cache_bytes
    return FrontPoint(
        point=f"p{index}",
        trial=judged.trial.number,
        size_bytes=judged.trial.size_bytes,
        bits_per_weight=8 * weight_bytes / prepared.inventory.num_parameters,
        kl_divergence=m.kl_divergence,
        kl_divergence_ci95=bootstrap_interval(m.sequence_kl),
        perplexity=m.perplexity,
        recommended=recommended is not None and judged.trial.number == recommended.trial.number,
    )
