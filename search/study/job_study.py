"""The Optuna study of a job: every plan is asked of it and every result told to it, whoever its sampler is.

Batches are asked whole and told in order. Optuna keeps no database here: our store is the truth, and the study is
replayed from it, system attributes included (without them NSGA-II would start again at generation zero).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import optuna
from optuna.trial import TrialState as OptunaState

from search.decide.observation import Observation, Proposal
from search.decide.steps import FrontStrategy
from search.measure.trial_records import proposal_of
from search.study.drawn_sampler import DrawnSampler
from search.study.front_sampler import FrontSampler
from search.study.job_sampler import JobSampler
from search.study.plan_codec import BUDGET, ORIGIN, PlanCodec, SharedIndex
from space.measurement import Measurement
from space.plan import Plan
from space.spec import SamplerName
from storage.job_facts import KeptLosses
from storage.records import Trial, TrialState
from storage.sampler_state import SamplerState

_CONSTRAINT = f"constraints:{BUDGET}"  # Optuna's own key in a trial's system attributes
FindSketch = Callable[[Proposal], np.ndarray | None]
"""probe -> its sketch, where it is kept"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that was asked, and the weight bytes of its plan."""

    number: int
    proposal: Proposal
    weight_bytes: int


class JobStudy:
    """Ask for batches of plans, tell results; the only holder of the study.

    Attributes:
        study: Optuna's, of two objectives: weight bytes and KL divergence.

    """

    def __init__(
        self,
        name: SamplerName,
        strategy: FrontStrategy,
        cache_bytes: int = 0,
        find_sketch: FindSketch = lambda _: None,
    ) -> None:
        """Make an empty study; all samplers see the same space, the same uniform plans and as many trials.

        Args:
            name: of the sampler.
            strategy: of ours; others take its space, budget and seed.
            cache_bytes: that records count beside the weights: the key/value cache.
            find_sketch: of what was measured before.

        """
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._codec, self._space, self._budget = (
            PlanCodec(strategy.space, SharedIndex),
            strategy.space,
            strategy.budget_bytes,
        )
        self._cache_bytes, self._find_sketch = cache_bytes, find_sketch
        self._observed: list[Observation] = []
        self._news: dict[int, Observation] = {}
        self._failed: set[Proposal] = set()
        sampler = (
            FrontSampler(strategy, self._codec, self._observed, self._failed)
            if name == "front"
            else DrawnSampler(name, strategy.seed, self._codec, self._space)
        )
        self._sampler: JobSampler = sampler
        self.study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(), sampler=sampler, directions=["minimize", "minimize"]
        )
        self._bases: dict[Plan, Plan] = {}
        self._last_base: tuple[Plan, dict[str, str]] | None = None

    def replay(self, trials: Sequence[Trial]) -> list[Asked]:
        """Rebuild the study from records; return the trials that were asked but have no end yet."""
        waiting = []
        for trial in trials:
            asked = Asked(trial.number, self._shared(proposal_of(trial)), trial.size_bytes - self._cache_bytes)
            self._add(asked, trial)
            if not trial.state.is_finished:
                waiting.append(asked)
            elif trial.state is TrialState.COMPLETE and trial.measurement is not None:
                self._observe(asked, trial.measurement)
            elif trial.state is TrialState.FAILED:
                self._failed.add(asked.proposal)
        self._sampler.replayed(self.study)
        return waiting

    def ask(self, limit: int) -> list[Asked]:
        """Return the next batch, at most `limit` plans; empty when the sampler has nothing left."""
        if limit <= 0:
            return []
        self._settle()
        return [self._ask_one() for _ in range(self._sampler.batch_size(self.study, limit))]

    def _ask_one(self) -> Asked:
        trial = self.study.ask(self._codec.distributions)
        proposal = self._sampler.proposal(trial)
        weight_bytes = self._space.weight_bytes(proposal.plan)
        trial.set_constraint(BUDGET, weight_bytes - self._budget)
        trial.set_user_attr(ORIGIN, proposal.origin)
        return Asked(trial.number, proposal, weight_bytes)

    def tell(self, asked: Asked, measurement: Measurement | None) -> None:
        """Tell a result; None is a failed trial."""
        if measurement is None:
            self.study.tell(asked.number, state=OptunaState.FAIL)
            self._failed.add(asked.proposal)
        else:
            self.study.tell(asked.number, [asked.weight_bytes, measurement.kl_divergence])
            self._observe(asked, measurement)

    def sampler_state(self, asked: Asked) -> SamplerState:
        """Return what must be recorded with a trial for its replay, its batch aside."""
        attrs = dict(self.study.get_trials(deepcopy=False)[asked.number].system_attrs)
        attrs.pop(_CONSTRAINT, None)  # follows from the bytes
        base = asked.proposal.base
        return SamplerState(
            num_sequences=asked.proposal.num_sequences,
            base=self._json_of(base) if base else None,
            system_attrs=json.loads(json.dumps(attrs)),
        )

    def kept_model(self) -> KeptLosses | None:
        """Return what was learnt about each module, as a job keeps it; None where the sampler learns no such thing."""
        self._settle()
        return self._sampler.kept_model()

    @property
    def observations(self) -> Sequence[Observation]:
        """Return everything observed."""
        self._settle()
        return self._observed

    def _settle(self) -> None:
        """Take up the news in the order of asking, also where a batch was interrupted: sums round by it."""
        self._observed += [seen for _, seen in sorted(self._news.items(), key=lambda news: news[0])]
        self._news.clear()

    def _observe(self, asked: Asked, measurement: Measurement) -> None:
        proposal, sketch = asked.proposal, measurement.sketch
        if sketch is None and proposal.base is not None:
            sketch = self._find_sketch(proposal)
        kl = measurement.sequence_kl
        seen = Observation(proposal.plan, proposal.origin, kl, proposal.base, sketch, asked.weight_bytes)
        self._news[asked.number] = seen

    def _add(self, asked: Asked, trial: Trial) -> None:
        state, values = OptunaState.FAIL, None
        if not trial.state.is_finished:
            state = OptunaState.RUNNING
        elif trial.state is TrialState.COMPLETE and trial.measurement is not None:
            state, values = OptunaState.COMPLETE, [asked.weight_bytes, trial.measurement.kl_divergence]
        excess, attrs = asked.weight_bytes - self._budget, trial.sampler_state.system_attrs
        self.study.add_trial(
            self._codec.trial(asked.proposal, state, excess_bytes=excess, values=values, system_attrs=attrs)
        )

    def _json_of(self, base: Plan) -> dict[str, str]:
        """Return a base's JSON; that of the last one is kept, since a batch has few bases."""
        if self._last_base is None or self._last_base[0] is not base:
            self._last_base = base, base.to_json()
        return self._last_base[1]

    def _shared(self, proposal: Proposal) -> Proposal:
        """Return a proposal with the one object of equal bases: thousands of probes share a few."""
        if proposal.base is None:
            return proposal
        return replace(proposal, base=self._bases.setdefault(proposal.base, proposal.base))
