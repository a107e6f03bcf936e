"""Optuna's own samplers as honest baselines: the uniform plans first, then batches that one of them draws."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from search.decide.handmade_plans import GIVEN
from search.decide.observation import UNIFORM, Proposal
from search.study.plan_codec import ORIGIN, PlanCodec
from space.digest import digest
from space.menu import SearchSpace
from space.spec import SamplerName

BATCH = 8
_GENERATION = "NSGAIISampler:generation"  # Optuna's own key in a trial's system attributes


class DrawnSampler(BaseSampler):
    """Hands Optuna's questions on to one of its own samplers, made anew for each batch."""

    def __init__(self, name: SamplerName, seed: int, codec: PlanCodec, space: SearchSpace) -> None:
        """Make the first batch's sampler."""
        self._name, self._seed, self._codec, self._space = name, seed, codec, space
        self._drawing = drawing_sampler(name, seed, 0)

    def batch_size(self, study: Study, limit: int) -> int:
        """Begin the next batch; its sampler remembers nothing but the study, as after a replay."""
        num_trials = len(study.get_trials(deepcopy=False))
        if num_trials == 0:
            for _, plan in self._space.uniform_plans():
                study.enqueue_trial(self._codec.params(plan), user_attrs={ORIGIN: UNIFORM}, skip_if_exists=True)
            for _, plan in self._space.given:
                study.enqueue_trial(self._codec.params(plan), user_attrs={ORIGIN: GIVEN}, skip_if_exists=True)
        count = len(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
        if count == 0:
            self._drawing = drawing_sampler(self._name, self._seed, num_trials)
            count = BATCH
        return min(count, limit)

    def proposal(self, trial: Trial) -> Proposal:
        """Return what was proposed as a trial that was just asked."""
        drawn = type(self._drawing).__name__.removesuffix("Sampler").lower()
        return Proposal(self._codec.plan(trial.params), trial.user_attrs.get(ORIGIN, drawn))

    def replayed(self, study: Study) -> None:
        """Have NSGA-II choose every generation's parents again: it orders them differently the first time it does."""
        if isinstance(self._drawing, optuna.samplers.NSGAIISampler):
            generations = [t.system_attrs.get(_GENERATION, 0) for t in study.get_trials(deepcopy=False)]
            for generation in range(1, max(generations, default=0) + 1):
                self._drawing.get_parent_population(study, generation)

    def kept_model(self) -> None:
        """Return nothing: no such thing is learnt."""

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Ask the batch's sampler."""
        return self._drawing.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Ask the batch's sampler."""
        return self._drawing.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Ask the batch's sampler."""
        return self._drawing.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Tell the batch's sampler."""
        self._drawing.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Tell the batch's sampler."""
        self._drawing.after_trial(study, trial, state, values)


def drawing_sampler(name: SamplerName, seed: int, num_trials: int) -> BaseSampler:
    """Return one of Optuna's samplers by name.

    Its seed depends on the trials there are, so that a batch is the same whether or not the search was interrupted.
    """
    salted = int(digest([seed, num_trials])[:8], 16)
    if name == "nsga2":
        return NSGAIISampler(population_size=2 * BATCH, seed=salted)
    if name == "tpe":
        return TPESampler(multivariate=True, constant_liar=True, seed=salted)
    return RandomSampler(seed=salted)
