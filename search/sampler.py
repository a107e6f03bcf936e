"""Samplers: our own first-class Optuna sampler that proposes whole plans, and Optuna's as honest baselines.

A plan is one integer parameter per free module: the index of its level in the space, by bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from search.explain import losses_to_json
from search.observation import Observation, Proposal
from search.strategy import FrontStrategy
from space.digest import digest
from space.menu import SearchSpace
from space.plan import Plan
from space.spec import SamplerName

BASELINE_BATCH = 8
ORIGIN = "origin"


class _Shared(dict[str, BaseDistribution]):
    """Distributions that all trials of a study share: Optuna copies those of each added trial, 100 KB of them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class PlanCodec:
    """Translates plans to Optuna parameters and back."""

    def __init__(self, space: SearchSpace) -> None:
        """Remember the space."""
        self._space = space
        self.distributions: dict[str, BaseDistribution] = _Shared(
            {name: IntDistribution(0, len(levels) - 1) for name, levels in space.levels.items() if len(levels) > 1}
        )

    def params(self, plan: Plan) -> dict[str, int]:
        """Return the parameters of a plan."""
        return {name: self._space.levels[name].index(plan[name]) for name in self.distributions}

    def plan(self, params: Mapping[str, Any]) -> Plan:
        """Return the plan of parameters; modules with one level need none."""
        return Plan.of({name: levels[int(params.get(name, 0))] for name, levels in self._space.levels.items()})


class FrontSampler(BaseSampler):
    """Proposes the strategy's plans in order; a new batch is decided when the last one is told.

    Optuna's trials hold two values each; what the strategy learns from is richer, so it is handed over beside them.
    """

    def __init__(self, strategy: FrontStrategy, codec: PlanCodec, observations: Sequence[Observation]) -> None:
        """Make a sampler without a batch; `observations` grows as trials are told."""
        self._strategy, self._codec, self._observations = strategy, codec, observations
        self._batch: list[Proposal] = []
        self._proposals: dict[int, Proposal] = {}

    def batch_size(self) -> int:
        """Return how many trials may be asked now; zero ends the search. Trials on their way must be told first."""
        if not self._batch:
            self._batch = self._strategy.next_batch(self._observations)
        return len(self._batch)

    def proposal(self, trial_number: int) -> Proposal | None:
        """Return what was proposed as a trial."""
        return self._proposals.get(trial_number)

    def model_json(self) -> dict[str, Any]:
        """Return what was learnt about each module: the additive model, as a job keeps it."""
        return losses_to_json(self._strategy.model(self._observations))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return all parameters: plans are proposed whole."""
        return self._codec.distributions

    def sample_relative(
        self,
        study: Study,  # noqa: ARG002
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the next plan of the batch."""
        if self.batch_size() == 0:
            raise optuna.exceptions.OptunaError("The strategy has nothing left to propose; check batch_size() first.")
        proposal = self._batch.pop(0)
        self._proposals[trial.number] = proposal
        return self._codec.params(proposal.plan)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value for a parameter outside the space: at random, as Optuna's own samplers do."""
        return RandomSampler(seed=trial.number).sample_independent(study, trial, param_name, param_distribution)


def make_sampler(
    name: SamplerName,
    strategy: FrontStrategy,
    codec: PlanCodec,
    num_trials: int = 0,
    observations: Sequence[Observation] = (),
) -> BaseSampler:
    """Return a sampler by name; all see the same space, the same uniform plans and the same number of trials.

    Its seed depends on the trials there are, so that a batch is the same whether or not the search was interrupted.
    """
    if name == "front":
        return FrontSampler(strategy, codec, observations)
    seed = int(digest([strategy.seed, num_trials])[:8], 16)
    if name == "nsga2":
        return NSGAIISampler(population_size=2 * BASELINE_BATCH, seed=seed)
    if name == "tpe":
        return TPESampler(multivariate=True, constant_liar=True, seed=seed)
    return RandomSampler(seed=seed)
