"""The end of a search: which plans are judged on held-out text.

Whatever is judged can only be beaten by something that was judged too, so every uniform plan is, and every plan made by
hand (`guards`) that no chosen contender beats measurably: the front is never measurably worse than they are.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import log

from search.decide.handmade_plans import HEURISTIC
from space.measurement import Measurement
from space.results.front import non_dominated, paired_interval
from storage.records import Trial, TrialState

MAX_TIES = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A complete trial with its measurement on the whole search text."""

    trial: Trial
    measurement: Measurement

    @property
    def size_bytes(self) -> int:
        """Return the size that the budget counts."""
        return self.trial.size_bytes

    @property
    def point(self) -> tuple[float, float]:
        """Return (bytes, KL)."""
        return self.trial.size_bytes, self.measurement.kl_divergence

    def is_measurably_better(self, other: "Candidate") -> bool:
        """Tell whether this KL is measurably below the other's, on the same sequences."""
        _, high = paired_interval(self.measurement.sequence_kl, other.measurement.sequence_kl)
        return high < 0


def whole_text_trials(trials: Sequence[Trial]) -> list[Trial]:
    """Return the complete trials that were measured on the whole search text (probes are not)."""
    return [t for t in trials if t.state is TrialState.COMPLETE and t.measurement and not t.sampler_state.num_sequences]


def choose_contenders(trials: Sequence[Trial], compared: set[str], budget_bytes: int) -> list[Trial]:
    """Return the trials to judge, those that the front needs most first: all its points, and what they stand beside.

    At the budget the best plan; the uniform and given plans, the largest within the budget first; up to three more at
    the budget that are not measurably worse than its best, since the search text cannot tell which of them is; the best
    plan at each of their sizes; the plans made by hand that none of these beats measurably; and the front's other
    points, each time the one farthest in size from all before.

    Args:
        trials: all of a job's.
        compared: digests of the uniform plans, and of those that the request brings.
        budget_bytes: what must be fitted.

    """
    usable = _distinct(Candidate(t, t.measurement) for t in whole_text_trials(trials) if t.measurement)
    front = [usable[i] for i in non_dominated([c.point for c in usable])]
    beside = [c for c in usable if c.trial.plan.digest in compared]
    nearest = sorted(beside, key=lambda c: (c.size_bytes > budget_bytes, abs(c.size_bytes - budget_bytes)))
    ties = _ties(usable, budget_bytes)
    best = [found for c in beside if (found := _best_within(front, c.size_bytes)) is not None]
    others = _by_spread(front, {c.trial.number for c in [*ties, *best]})
    by_hand = _unbeaten_heuristics(usable, [*ties, *best, *others], budget_bytes)
    return [c.trial for c in _distinct([*ties[:1], *nearest, *ties[1:], *best, *by_hand, *others])]


def _distinct(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Return the candidates, of equal plans the first one."""
    found: dict[str, Candidate] = {}
    for candidate in candidates:
        found.setdefault(candidate.trial.plan.digest, candidate)
    return list(found.values())


def _loss(candidate: Candidate) -> tuple[float, int]:
    return candidate.measurement.kl_divergence, candidate.size_bytes


def _best_within(candidates: Sequence[Candidate], limit: int) -> Candidate | None:
    return min((c for c in candidates if c.size_bytes <= limit), key=_loss, default=None)


def _ties(usable: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Return the best plan within a limit and those behind it, up to the first that it measurably beats."""
    fitting = sorted((c for c in usable if c.size_bytes <= limit), key=_loss)
    found = fitting[:1]
    for rival in fitting[1:]:
        if len(found) >= MAX_TIES or fitting[0].is_measurably_better(rival):
            break
        found.append(rival)
    return found


def _unbeaten_heuristics(
    usable: Sequence[Candidate], chosen: Sequence[Candidate], budget_bytes: int
) -> list[Candidate]:
    """Return the plans made by hand that no chosen plan of at most their size beats, and the best that fits."""
    by_hand = [c for c in usable if c.trial.origin == HEURISTIC]
    unbeaten = [
        h for h in by_hand if not any(c.size_bytes <= h.size_bytes and c.is_measurably_better(h) for c in chosen)
    ]
    best = _best_within(by_hand, budget_bytes)
    return unbeaten if best is None else [*unbeaten, best]


def _by_spread(front: Sequence[Candidate], taken: set[int]) -> list[Candidate]:
    """Return the other candidates of a front, each time the one farthest in size from all chosen before."""
    chosen = [c for c in front if c.trial.number in taken]
    left = [c for c in front if c.trial.number not in taken]
    order = []
    while left:
        farthest = max(
            left,
            key=lambda c: (
                min((abs(log(c.size_bytes / other.size_bytes)) for other in chosen), default=9.0),
                -c.trial.number,
            ),
        )
        left.remove(farthest)
        chosen.append(farthest)
        order.append(farthest)
    return order
