"""What a search found, as the document that users read: front, uniform plans, how sure each difference is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from search.decide.contenders import whole_text_trials
from search.measure.trial_records import num_new
from search.request.prepare import Prepared
from space.cost import searched_cache_bytes
from space.measurement import Measurement
from space.question import QUESTIONS
from space.results.document import (
    Comparison,
    DensePoint,
    FrontDocument,
    FrontPoint,
    GivenPoint,
    SearchCost,
    UniformPoint,
)
from space.results.expert_tokens import ExpertTokens
from space.results.front import bootstrap_interval, front_hypervolume, non_dominated, paired_interval
from space.results.own_score import OwnScore, score_of
from space.results.price import marginal_price
from storage.records import Job, Trial


@dataclass(frozen=True, slots=True)
class Judged:
    """A trial with the measurement it is judged by, and what it says to the user's own questions."""

    trial: Trial
    measurement: Measurement
    own: OwnScore | None = None

    @property
    def point(self) -> tuple[float, float]:
        """Return (bytes, KL)."""
        return self.trial.size_bytes, self.measurement.kl_divergence


def build_document(
    job: Job,
    prepared: Prepared,
    trials: Sequence[Trial],
    dense_perplexity: float,
    wall_seconds: float,
    advice: str | None = None,
    other_token_forwards: float = 0.0,
    experts: ExpertTokens | None = None,
    own_marks: Mapping[str, str] = MappingProxyType({}),
) -> FrontDocument:
    """Return a job's front: on held-out text where it was measured, else on the search text, and says which.

    Args:
        job: its request and state.
        prepared: its model, space and budget.
        trials: all of them.
        dense_perplexity: of the model as it is, on held-out text.
        wall_seconds: that the job took until now.
        advice: what would make the front better.
        other_token_forwards: what was spent on no trial of the front: a gradient pass, plans that judging stopped.
        experts: what they saw of the calibration text.
        own_marks: digest of a plan -> what it said to the user's own questions.

    """
    held_out = any(t.held_out for t in trials)
    judged = _judged(trials, own_marks, held_out=held_out)
    uniform = _uniform(prepared, judged)
    front = [judged[i] for i in non_dominated([j.point for j in judged])]
    recommended = _recommend(judged, prepared)
    points = [j.point for j in front]
    reference = _reference(list(uniform.values()))
    smallest = prepared.space.smallest_bytes + prepared.cache_bytes
    measured = [m for t in trials for m in (t.measurement, t.held_out) if m]
    return FrontDocument(
        job=job.job_id,
        state=str(job.state),
        model=job.spec.model,
        target=job.spec.target,
        budget_bytes=prepared.budget_bytes,
        seed=job.spec.seed,
        dense=DensePoint(prepared.dense_bytes, dense_perplexity, score_of(own_marks.get(prepared.dense_plan.digest))),
        uniform=tuple(_uniform_point(level, j) for level, j in uniform.items()),
        front=tuple(_front_point(i, front, uniform, prepared, recommended) for i in range(len(front))),
        hypervolume=front_hypervolume(points, reference, smallest),
        reference_point=reference,
        cost=SearchCost(
            sum(m.token_forwards for m in measured) + other_token_forwards,
            num_new([t for t in trials if t.state.is_finished]),
            wall_seconds,
        ),
        measured_on="held_out" if held_out else "search",
        marginal_price=marginal_price(points, prepared.budget_bytes),
        advice=advice,
        metric=QUESTIONS[prepared.inventory.family].metric,
        given=tuple(_given_points(prepared, judged, front)),
        experts=experts,
    )


def _judged(trials: Sequence[Trial], own_marks: Mapping[str, str], *, held_out: bool) -> list[Judged]:
    if held_out:
        return [Judged(t, t.held_out, score_of(own_marks.get(t.plan.digest))) for t in trials if t.held_out]
    return [Judged(t, t.measurement) for t in whole_text_trials(trials) if t.measurement]


def _uniform(prepared: Prepared, judged: Sequence[Judged]) -> dict[str, Judged]:
    """Return level -> measured uniform plan, by rising bits."""
    by_digest: Mapping[str, Judged] = {j.trial.plan.digest: j for j in judged}
    plans = prepared.space.uniform_plans()
    return {str(level): by_digest[plan.digest] for level, plan in plans if plan.digest in by_digest}


def _reference(uniform: Sequence[Judged]) -> tuple[float, float]:
    if not uniform:
        return 0.0, 0.0
    return float(max(j.trial.size_bytes for j in uniform)), max(j.measurement.kl_divergence for j in uniform)


def _recommend(judged: Sequence[Judged], prepared: Prepared) -> Judged | None:
    """Return the best plan within the budget; guards are judged too, so none that fits is better."""
    fitting = [j for j in judged if j.trial.size_bytes <= prepared.budget_bytes]
    return min(fitting, key=lambda j: (j.measurement.kl_divergence, j.trial.size_bytes)) if fitting else None


def _uniform_point(level: str, judged: Judged) -> UniformPoint:
    m = judged.measurement
    interval = bootstrap_interval(m.sequence_kl)
    return UniformPoint(level, judged.trial.size_bytes, m.kl_divergence, interval, m.perplexity, judged.own)


def _given_points(prepared: Prepared, judged: Sequence[Judged], front: Sequence[Judged]) -> Iterator[GivenPoint]:
    """Yield the measured plans of the request's own, each beside the best point of at most its bytes."""
    by_digest = {j.trial.plan.digest: j for j in judged}
    for name, plan in prepared.space.given:
        if (found := by_digest.get(plan.digest)) is None:
            continue
        m, size = found.measurement, found.trial.size_bytes
        within = [(j.measurement, i) for i, j in enumerate(front) if j.trial.size_bytes <= size]
        best = within[-1] if within else None  # a larger point of a front is a better one
        yield GivenPoint(
            name=name,
            trial=found.trial.number,
            size_bytes=size,
            kl_divergence=m.kl_divergence,
            kl_divergence_ci95=bootstrap_interval(m.sequence_kl),
            perplexity=m.perplexity,
            versus_front=None if best is None else _compare(_name(best[1]), best[0], m),
            own=found.own,
        )


def _front_point(
    index: int, front: Sequence[Judged], uniform: Mapping[str, Judged], prepared: Prepared, recommended: Judged | None
) -> FrontPoint:
    judged = front[index]
    m, size_bytes = judged.measurement, judged.trial.size_bytes
    sizes = {level: j.trial.size_bytes for level, j in uniform.items()}
    nearest = min(sizes, key=lambda level: (abs(sizes[level] - size_bytes), sizes[level]), default=None)
    is_last = index + 1 == len(front)
    cache = prepared.cache_bytes + searched_cache_bytes(prepared.inventory, judged.trial.plan, prepared.space.target)
    return FrontPoint(
        point=_name(index),
        trial=judged.trial.number,
        size_bytes=size_bytes,
        bits_per_weight=8 * (size_bytes - cache) / prepared.inventory.num_parameters,
        kl_divergence=m.kl_divergence,
        kl_divergence_ci95=bootstrap_interval(m.sequence_kl),
        perplexity=m.perplexity,
        recommended=recommended is not None and judged.trial.number == recommended.trial.number,
        versus_next=None if is_last else _compare(_name(index + 1), m, front[index + 1].measurement),
        versus_uniform=None if nearest is None else _compare(nearest, m, uniform[nearest].measurement),
        own=judged.own,
    )


def _name(index: int) -> str:
    return f"p{index}"


def _compare(name: str, ours: Measurement, theirs: Measurement) -> Comparison:
    low, high = paired_interval(ours.sequence_kl, theirs.sequence_kl)
    ratio = ours.kl_divergence / theirs.kl_divergence if theirs.kl_divergence > 0 else None
    return Comparison(name, ratio, (low, high), measurable=not low <= 0 <= high)
