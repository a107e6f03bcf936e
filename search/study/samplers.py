"""Samplers: our own first-class Optuna sampler that proposes whole plans, and Optuna's as honest baselines.

A plan is one integer parameter per free module: the index of its level in the space, by bytes.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from search.decide.observation import Observation, Proposal
from search.decide.steps import FrontStrategy
from space.digest import digest
from space.menu import SearchSpace
from space.plan import Choice, Plan
from space.spec import SamplerName

BASELINE_BATCH = 8
ORIGIN, BUDGET = "origin", "budget"


class _Shared(dict[str, BaseDistribution]):
    """Distributions that all trials of a study share: Optuna copies those of each added trial, 100 KB of them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class _Params(Mapping[str, int]):
    """A plan's parameters in a fifth of the space of a dict; never changed, so never copied."""

    def __init__(self, positions: Mapping[str, int], values: tuple[int, ...]) -> None:
        self._positions, self._values = positions, values

    def __getitem__(self, name: str) -> int:
        return self._values[self._positions[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Params":
        return self


class PlanCodec:
    """Translates plans to Optuna's parameters and trials, and back; plans name the modules in the space's order."""

    def __init__(self, space: SearchSpace) -> None:
        """Remember the space."""
        self._space = space
        self._index: Mapping[Choice, int | None] = {  # None: the module has no other level, and no parameter
            (name, level): i if len(levels) > 1 else None
            for name, levels in space.levels.items()
            for i, level in enumerate(levels)
        }
        free = [name for name, levels in space.levels.items() if len(levels) > 1]
        self._positions = {name: position for position, name in enumerate(free)}
        self.distributions: dict[str, BaseDistribution] = _Shared(
            {name: IntDistribution(0, len(space.levels[name]) - 1) for name in free}
        )

    def params(self, plan: Plan) -> dict[str, int]:
        """Return the parameters of a plan."""
        return dict(self._params(plan))

    def plan(self, params: Mapping[str, Any]) -> Plan:
        """Return the plan of parameters; modules with one level need none."""
        return Plan.of({name: levels[int(params.get(name, 0))] for name, levels in self._space.levels.items()})

    def trial(
        self,
        proposal: Proposal,
        state: TrialState,
        *,
        excess_bytes: int,
        values: Sequence[float] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> FrozenTrial:
        """Return a proposal's trial, for `Study.add_trial`; `excess_bytes` are those beyond the budget."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = optuna.trial.create_trial(
                state=state,
                values=values,
                user_attrs={ORIGIN: proposal.origin},
                system_attrs=dict(system_attrs or {}),
                constraints={BUDGET: excess_bytes},
            )
        trial.params = cast("dict[str, Any]", self._params(proposal.plan))  # Optuna only reads those of such a trial
        trial.distributions = self.distributions
        return trial

    def _params(self, plan: Plan) -> "_Params":
        values = tuple(i for i in map(self._index.__getitem__, plan.levels) if i is not None)
        return _Params(self._positions, values)


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


def baseline_sampler(name: SamplerName, seed: int, num_trials: int) -> BaseSampler:
    """Return one of Optuna's samplers by name.

    Its seed depends on the trials there are, so that a batch is the same whether or not the search was interrupted.
    """
    salted = int(digest([seed, num_trials])[:8], 16)
    if name == "nsga2":
        return NSGAIISampler(population_size=2 * BASELINE_BATCH, seed=salted)
    if name == "tpe":
        return TPESampler(multivariate=True, constant_liar=True, seed=salted)
    return RandomSampler(seed=salted)
