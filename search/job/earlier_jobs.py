"""A warm start: what a finished search of earlier jobs found, as trials of a new one that cost nothing."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property

from search.decide.handmade_plans import HEURISTIC
from search.decide.observation import KNOWN, SENSITIVITY, UNIFORM
from search.decide.operating_points import is_near
from search.decide.steps import nearly_lossless
from search.measure.known_answers import KnownAnswers, Question
from space.menu import SearchSpace
from space.plan import Plan
from storage.records import Asking, Known, Trial, TrialState
from storage.sampler_state import SamplerState

"""Origin of a plan that earlier jobs measured; a trial's sampler state says it too, whatever its origin."""
MAX_KNOWN_PLANS = 400


@dataclass(frozen=True)
class Earlier:
    """What is known of the plans of a space."""

    space: SearchSpace
    known_answers: KnownAnswers

    @cached_property
    def uniform(self) -> list[Known]:
        """Return the uniform plans that were measured on the whole search text."""
        found = self.known_answers.whole("search")
        return [found[plan.digest] for plan in _uniform_plans(self.space) if plan.digest in found]

    @cached_property
    def probes(self) -> list[tuple[int, Known]]:
        """Return (number of sequences, measurement) of every sensitivity probe."""
        found = [known for _, part in self.known_answers.parts("search") for known in part if self._is_probe(known)]
        found += self._whole_bases({base.digest for known in found if (base := _base(known)) is not None})
        return [(len(known.measurement.sequence_kl), known) for known in found]

    def _is_probe(self, known: Known) -> bool:
        base = _base(known)
        return base is not None and self._holds(base) and self._holds(known.plan)

    def _whole_bases(self, bases: Collection[str]) -> list[Known]:
        """Return operating points that were probed on all text: it was as plans that they were measured there first."""
        whole = [k for digest, k in self.known_answers.whole("search").items() if digest in bases and _base(k) is None]
        probed = [replace(k, asking=Asking(SENSITIVITY, k.plan)) for k in whole]
        return [k for k in probed if self.known_answers.sketch(Question(k.plan, "search", asking=k.asking)) is not None]

    @cached_property
    def plans(self) -> list[Known]:
        """Return the other plans that were measured on the whole search text, those nearest to their front."""
        uniform = {plan.digest for plan in _uniform_plans(self.space)}
        others = [
            known
            for digest, known in self.known_answers.whole("search").items()
            if digest not in uniform and _base(known) is None and self._holds(known.plan)
        ]
        order = sorted(others, key=lambda k: (self._size(k), k.measurement.kl_divergence, k.plan.digest))
        best, excess = float("inf"), {}
        for known in order:
            best = min(best, known.measurement.kl_divergence)
            excess[known.plan.digest] = known.measurement.kl_divergence / best if best > 0 else 1.0
        kept = sorted(order, key=lambda k: (excess[k.plan.digest], k.plan.digest))[:MAX_KNOWN_PLANS]
        return sorted(kept, key=lambda k: (self._size(k), k.measurement.kl_divergence, k.plan.digest))

    @property
    def is_enough(self) -> bool:
        """Tell whether a search was finished: uniform plans judged, and each module that has a choice was probed.

        Probes of this space's nearly lossless plan count: those of another one's do not tell prices.
        """
        judged = self.known_answers.whole("held_out")
        if not all(
            plan.digest in judged and plan.digest in self.known_answers.whole("search")
            for plan in _uniform_plans(self.space)
        ):
            return False
        wide = nearly_lossless(self.space)
        probed = [known.plan for _, known in self.probes if _base(known) == wide]
        changed = {name for plan in probed for name, level in plan.levels if wide[name] != level}
        return {name for name, levels in self.space.levels.items() if len(levels) > 1} <= changed

    def is_near(self, budget: int) -> bool:
        """Tell whether probes were made around a plan near a budget: what is known tells how errors add up there."""
        bases = {base.digest: base for _, known in self.probes if (base := _base(known)) is not None}
        return is_near(min(budget, self.space.largest_bytes), map(self.space.weight_bytes, bases.values()))

    def trials(self, job_id: str, cache_bytes: int) -> list[Trial]:
        """Return complete trials of a job: uniform plans, probes, and the other plans with origin "known"."""
        found: list[tuple[str, int | None, Known]] = [(UNIFORM, None, known) for known in self.uniform]
        found += [(SENSITIVITY, count, known) for count, known in self.probes]
        found += [(_origin(known), None, known) for known in self.plans]
        return [
            self._trial(job_id, number, cache_bytes, origin, count, known)
            for number, (origin, count, known) in enumerate(found)
        ]

    def _trial(self, job_id: str, number: int, cache_bytes: int, origin: str, count: int | None, known: Known) -> Trial:
        base = _base(known)
        judged = self.known_answers.whole("held_out").get(known.plan.digest) if count is None else None
        return Trial(
            job_id=job_id,
            number=number,
            plan=known.plan,
            origin=origin,
            state=TrialState.COMPLETE,
            size_bytes=self._size(known) + cache_bytes,
            measurement=known.measurement.free,
            held_out=judged.measurement.free if judged else None,
            sampler_state=SamplerState(count, base.to_json() if base else None, known=True),
        )

    def _size(self, known: Known) -> int:
        return self.space.weight_bytes(known.plan)

    def _holds(self, plan: Plan) -> bool:
        return self.space.holds(plan)


def _uniform_plans(space: SearchSpace) -> list[Plan]:
    return list({plan.digest: plan for _, plan in space.uniform_plans()}.values())


def _base(known: Known) -> Plan | None:
    """Return the plan that a probe is a neighbour of; None for what is not a probe."""
    is_probe = known.asking is not None and known.asking.origin == SENSITIVITY
    return known.asking.base if is_probe and known.asking else None


def _origin(known: Known) -> str:
    return HEURISTIC if known.asking and known.asking.origin == HEURISTIC else KNOWN
