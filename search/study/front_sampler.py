"""Our own sampler: it proposes the plans of a strategy, each whole."""

from collections.abc import Collection, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial

from search.decide.explain import kept_losses
from search.decide.observation import Observation, Proposal
from search.decide.steps import NO_LIMIT, FrontStrategy
from search.study.plan_codec import PlanCodec
from storage.job_facts import KeptLosses


class FrontSampler(BaseSampler):
    """Proposes the strategy's plans in order; a new batch is decided when the last one is told.

    Optuna's trials hold two values each; what the strategy learns from is richer, so it is handed over beside them.
    """

    def __init__(
        self,
        strategy: FrontStrategy,
        codec: PlanCodec,
        observations: Sequence[Observation],
        failed: Collection[Proposal] = (),
    ) -> None:
        """Make a sampler without a batch; `observations` and `failed` grow as trials are told."""
        self._strategy, self._codec, self._observations, self._failed = strategy, codec, observations, failed
        self._batch: list[Proposal] = []
        self._proposals: dict[int, Proposal] = {}

    def batch_size(self, study: Study, limit: int = NO_LIMIT) -> int:  # noqa: ARG002 (others look at it)
        """Return how many trials may be asked now; zero ends the search. Trials on their way must be told first."""
        if not self._batch:
            self._batch = self._strategy.next_batch(self._observations, limit, self._failed)
        return min(limit, len(self._batch))

    def proposal(self, trial: Trial | FrozenTrial) -> Proposal:
        """Return what was proposed as a trial that was just asked."""
        if trial.number not in self._proposals:  # no module has a choice: Optuna does not ask for parameters
            return self._batch.pop(0)
        return self._proposals.pop(trial.number)

    def replayed(self, study: Study) -> None:
        """Do nothing: observations are all that a strategy learns from."""

    def kept_model(self) -> KeptLosses:
        """Return the additive model."""
        return kept_losses(self._strategy.model(self._observations))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002
        """Return all parameters: plans are proposed whole."""
        return self._codec.distributions

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        """Return the next plan of the batch."""
        if self.batch_size(study) == 0:
            raise optuna.exceptions.OptunaError("The strategy has nothing left to propose; check batch_size() first.")
        proposal = self._batch.pop(0)
        self._proposals[trial.number] = proposal
        return self._codec.params(proposal.plan)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a value for a parameter outside the space: at random, as Optuna's own samplers do."""
        return RandomSampler(seed=trial.number).sample_independent(study, trial, param_name, param_distribution)
