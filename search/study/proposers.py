"""Who fills a study's next batch: our own sampler, whose plans come whole, or one of Optuna's."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import optuna
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import TrialState as OptunaState

from search.decide.explain import losses_to_json
from search.decide.observation import UNIFORM, Observation, Proposal
from search.decide.steps import FrontStrategy
from search.study.samplers import BASELINE_BATCH, BUDGET, ORIGIN, FrontSampler, PlanCodec, baseline_sampler
from space.menu import SearchSpace
from space.spec import SamplerName

_GENERATION = "NSGAIISampler:generation"  # Optuna's own key in a trial's system attributes


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that the sampler asked for, and the weight bytes of its plan."""

    number: int
    proposal: Proposal
    weight_bytes: int


class Proposer(Protocol):
    """Opens trials in a study, batch by batch; what it remembers is no more than the study and its trials tell."""

    @property
    def sampler(self) -> BaseSampler:
        """Return the study's sampler."""

    def replayed(self, study: Study) -> None:
        """Take note of a study that was rebuilt from records."""

    def open_batch(
        self, study: Study, observations: Sequence[Observation], failed: Collection[Proposal], limit: int
    ) -> list[Asked]:
        """Open the trials of the next batch, at most `limit`; none when nothing is left to propose."""

    def model_json(self, observations: Sequence[Observation]) -> dict[str, Any] | None:
        """Return what was learnt about each module, as a job keeps it; None where no such thing is learnt."""


class FrontProposer:
    """Opens the strategy's batches."""

    def __init__(self, strategy: FrontStrategy, codec: PlanCodec) -> None:
        """Remember the strategy."""
        self._strategy, self._codec = strategy, codec

    @property
    def sampler(self) -> BaseSampler:
        """Return the strategy as a sampler; a study needs one, and ours asks it nothing: batches are opened whole."""
        return FrontSampler(self._strategy, self._codec, [])

    def replayed(self, study: Study) -> None:
        """Do nothing: observations are all that a strategy learns from."""

    def open_batch(
        self, study: Study, observations: Sequence[Observation], failed: Collection[Proposal], limit: int
    ) -> list[Asked]:
        """Open the next batch."""
        first, space = len(study.get_trials(deepcopy=False)), self._strategy.space
        batch = self._strategy.next_batch(observations, limit, failed)
        asked = [Asked(number, p, space.weight_bytes(p.plan)) for number, p in enumerate(batch, first)]
        for a in asked:
            excess = a.weight_bytes - self._strategy.budget_bytes
            study.add_trial(self._codec.trial(a.proposal, OptunaState.RUNNING, excess_bytes=excess))
        return asked

    def model_json(self, observations: Sequence[Observation]) -> dict[str, Any] | None:
        """Return the additive model."""
        return losses_to_json(self._strategy.model(observations))


class DrawnProposer:
    """Opens the uniform plans, then batches that one of Optuna's samplers draws."""

    def __init__(self, name: SamplerName, seed: int, codec: PlanCodec, space: SearchSpace, budget: int) -> None:
        """Make the first batch's sampler; `budget` is of weight bytes."""
        self._name, self._seed, self._codec, self._space, self._budget = name, seed, codec, space, budget
        self.sampler = baseline_sampler(name, seed, 0)

    def replayed(self, study: Study) -> None:
        """Have NSGA-II choose every generation's parents again: it orders them differently the first time it does."""
        if isinstance(self.sampler, optuna.samplers.NSGAIISampler):
            generations = [t.system_attrs.get(_GENERATION, 0) for t in study.get_trials(deepcopy=False)]
            for generation in range(1, max(generations, default=0) + 1):
                self.sampler.get_parent_population(study, generation)

    def open_batch(
        self,
        study: Study,
        observations: Sequence[Observation],  # noqa: ARG002
        failed: Collection[Proposal],  # noqa: ARG002 (a sampler's own business)
        limit: int,
    ) -> list[Asked]:
        """Open the next batch; its sampler remembers nothing but the study, as after a replay."""
        num_trials = len(study.get_trials(deepcopy=False))
        if num_trials == 0:
            for _, plan in self._space.uniform_plans():
                study.enqueue_trial(self._codec.params(plan), user_attrs={ORIGIN: UNIFORM}, skip_if_exists=True)
        count = len(study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)))
        if count == 0:
            self.sampler = study.sampler = baseline_sampler(self._name, self._seed, num_trials)
            count = BASELINE_BATCH
        return [self._ask_one(study) for _ in range(min(count, limit))]

    def model_json(self, observations: Sequence[Observation]) -> dict[str, Any] | None:  # noqa: ARG002
        """Return nothing."""
        return None

    def _ask_one(self, study: Study) -> Asked:
        trial = study.ask(self._codec.distributions)
        plan = self._codec.plan(trial.params)
        weight_bytes = self._space.weight_bytes(plan)
        trial.set_constraint(BUDGET, weight_bytes - self._budget)
        origin = trial.user_attrs.get(ORIGIN, type(self.sampler).__name__.removesuffix("Sampler").lower())
        trial.set_user_attr(ORIGIN, origin)
        return Asked(trial.number, Proposal(plan, origin), weight_bytes)


def make_proposer(name: SamplerName, strategy: FrontStrategy, codec: PlanCodec) -> Proposer:
    """Return who fills the batches; all see the same space, the same uniform plans and the same number of trials."""
    if name == "front":
        return FrontProposer(strategy, codec)
    return DrawnProposer(name, strategy.seed, codec, strategy.space, strategy.budget_bytes)


_: tuple[type[Proposer], ...] = (FrontProposer, DrawnProposer)
