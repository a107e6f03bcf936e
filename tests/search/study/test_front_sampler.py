"""Our sampler as an ordinary Optuna sampler."""

from collections.abc import Sequence

import optuna
import pytest
from optuna.distributions import IntDistribution

from search.decide.observation import KNAPSACK, SENSITIVITY, UNIFORM, Observation
from search.decide.steps import FrontStrategy
from search.study.front_sampler import FrontSampler
from search.study.plan_codec import PlanCodec
from space.plan import Plan
from tests.search.scripted import errors_of, loss, observed, prepared, spec

PREPARED = prepared(spec(pins=(("embed", "b8-g32"),)))
SPACE = PREPARED.space
CODEC = PlanCodec(SPACE)


def _sampler(observations: Sequence[Observation] = ()) -> FrontSampler:
    strategy = FrontStrategy(SPACE, errors_of(SPACE), PREPARED.weight_budget)
    return FrontSampler(strategy, CODEC, observations)


def test_plans_are_parameters_and_back() -> None:
    """Pinned modules need no parameter; every other one is an index by bytes."""
    assert set(CODEC.distributions) == set(SPACE.levels) - {"embed_tokens"}
    for _, plan in SPACE.uniform_plans():
        assert CODEC.plan(CODEC.params(plan)) == plan
    smallest = CODEC.plan(dict.fromkeys(CODEC.distributions, 0))
    assert SPACE.weight_bytes(smallest) == SPACE.smallest_bytes


def test_ask_and_tell() -> None:
    """Plans come as parameters; what they showed is handed over beside Optuna's two values."""
    observations: list[Observation] = []
    sampler = _sampler(observations)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    origins: list[str] = []
    while sampler.batch_size(study) and len(origins) < 40:
        asked = [study.ask(CODEC.distributions) for _ in range(sampler.batch_size(study))]
        for trial in asked:
            proposal = sampler.proposal(trial)
            assert CODEC.plan(trial.params) == proposal.plan
            origins.append(proposal.origin)
            study.tell(trial, [SPACE.weight_bytes(proposal.plan), loss(proposal.plan)])
            observations += observed([proposal])
    assert list(dict.fromkeys(origins))[:3] == [UNIFORM, SENSITIVITY, KNAPSACK]
    assert study.best_trials


def test_optimize() -> None:
    """An objective that suggests every module works too, as with any sampler."""

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        plan = Plan.of(
            {n: v[trial.suggest_int(n, 0, len(v) - 1) if len(v) > 1 else 0] for n, v in SPACE.levels.items()}
        )
        return SPACE.weight_bytes(plan), loss(plan)

    study = optuna.create_study(sampler=_sampler(), directions=["minimize", "minimize"])
    study.optimize(objective, n_trials=len(SPACE.uniform_levels))
    assert [CODEC.plan(t.params) for t in study.trials] == [plan for _, plan in SPACE.uniform_plans()]


def test_parameters_outside_the_space_are_drawn() -> None:
    """A foreign parameter gets a legal value."""
    study = optuna.create_study(sampler=_sampler(), directions=["minimize", "minimize"])
    assert 0 <= study.ask({**CODEC.distributions, "other": IntDistribution(0, 9)}).params["other"] <= 9


def test_an_exhausted_strategy_says_so() -> None:
    """Asking beyond the end is an error that tells how to notice the end."""
    narrow = SPACE.restricted({name: levels[:1] for name, levels in SPACE.levels.items()})
    one = {name: dict.fromkeys(levels, 0.1) for name, levels in narrow.levels.items()}
    plan = narrow.uniform_plan(narrow.uniform_levels[0])
    known = [Observation(plan, UNIFORM, (1.0,))]
    sampler = FrontSampler(FrontStrategy(narrow, one, PREPARED.weight_budget), CODEC, known)
    study = optuna.create_study(sampler=sampler, directions=["minimize", "minimize"])
    assert sampler.batch_size(study) == 0
    with pytest.raises(optuna.exceptions.OptunaError, match="batch_size"):
        study.ask(CODEC.distributions)
