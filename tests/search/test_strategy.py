"""The strategy: batches are a pure function of what was observed."""

import random

import pytest

from search.strategy import KNAPSACK, REFINE, SENSITIVITY, UNIFORM, FrontStrategy, Observation, Proposal
from space.level import Level
from tests.search.scripted import errors_of, loss, prepared, spec

PREPARED = prepared(spec())
SPACE = PREPARED.space


def _strategy(max_trials: int = 60, budget: int = PREPARED.weight_budget, seed: int = 0) -> FrontStrategy:
    return FrontStrategy(SPACE, errors_of(SPACE), budget, max_trials=max_trials, seed=seed)


def _observed(batch: list[Proposal]) -> list[Observation]:
    return [Observation(p.plan, p.origin, loss(p.plan)) for p in batch]


def _history(strategy: FrontStrategy, num_batches: int) -> list[list[Proposal]]:
    batches: list[list[Proposal]] = []
    for _ in range(num_batches):
        batches.append(strategy.next_batch([o for batch in batches for o in _observed(batch)]))
    return batches


def test_order_of_batches() -> None:
    """Uniform plans, probes, knapsack plans, then refinement."""
    origins = [{p.origin for p in batch} for batch in _history(_strategy(), 5)]
    assert origins == [{UNIFORM}, {SENSITIVITY}, {KNAPSACK}, {REFINE}, {REFINE}]


def test_uniform_first() -> None:
    """Whatever the trials, what people do today is measured first and on the whole text."""
    batch = _strategy(max_trials=1).next_batch([])
    assert [p.plan for p in batch] == [plan for _, plan in SPACE.uniform_plans()]
    assert all(p.num_sequences is None and p.base is None for p in batch)


def test_batches_are_a_pure_function_of_observations() -> None:
    """A new strategy with the same observations proposes the same; the order of observations does not matter."""
    batches = _history(_strategy(), 6)
    for count in range(6):
        observations = [o for batch in batches[:count] for o in _observed(batch)]
        assert _strategy().next_batch(observations) == batches[count]
    probes_shuffled = _observed(batches[1])
    random.Random(0).shuffle(probes_shuffled)
    assert _strategy().next_batch([*_observed(batches[0]), *probes_shuffled]) == batches[2]


def test_a_seed_changes_only_draws() -> None:
    """Seeds matter from refinement on; negative ones are seeds too."""
    ours, other = _history(_strategy(), 5), _history(_strategy(seed=-7), 5)
    assert ours[:3] == other[:3]
    assert ours[3:] != other[3:]


def test_nothing_is_proposed_twice() -> None:
    """A plan that was measured on the whole text is not asked again."""
    plans = [p.plan.digest for batch in _history(_strategy(), 8) for p in batch if p.origin != SENSITIVITY]
    assert len(plans) == len(set(plans))


@pytest.mark.parametrize("max_trials", [1, 22, 23, 31, 32, 60])
def test_probes_leave_trials_for_plans(max_trials: int) -> None:
    """Two probes per module, or one, or none: as many as leave room for uniform and knapsack plans."""
    strategy = _strategy(max_trials)
    batch = _history(strategy, 2)[1]
    probes = [p for p in batch if p.origin == SENSITIVITY]
    modules, room = len(SPACE.levels), max_trials - len(SPACE.uniform_levels) - strategy.num_sizes
    assert len(probes) == (2 * modules if room >= 2 * modules else modules if room >= modules else 0)
    for probe in probes:
        changed = [name for name, level in probe.plan.levels if level != strategy.base[name]]
        assert len(changed) == 1
        assert (probe.base, probe.num_sequences) == (strategy.base, strategy.probe_sequences)


def test_sizes_hold_what_will_be_compared() -> None:
    """The budget and every uniform size are solved for; all sizes can be reached."""
    sizes = _strategy().sizes
    assert PREPARED.weight_budget in sizes
    assert {SPACE.weight_bytes(plan) for _, plan in SPACE.uniform_plans()} <= set(sizes)
    assert sizes == sorted(sizes)
    assert SPACE.smallest_bytes <= sizes[0] <= sizes[-1] <= SPACE.largest_bytes


def test_a_budget_above_all_plans_is_the_largest_plan() -> None:
    """Nothing larger than the largest plan is looked for."""
    assert max(_strategy(budget=10**9).sizes) == SPACE.largest_bytes


def test_knapsack_plans_beat_uniform_ones() -> None:
    """At most uniform sizes a plan that is no larger is better, although the script holds what no model can know."""
    uniform, _, mixed = _history(_strategy(), 3)
    won = [
        any(SPACE.weight_bytes(p.plan) <= SPACE.weight_bytes(u.plan) and loss(p.plan) < loss(u.plan) for p in mixed)
        for u in uniform
    ]
    assert sum(won) >= 2


def test_nothing_left() -> None:
    """A space whose every plan was measured ends the search with an empty batch."""
    levels = (Level(2, 64), Level(8, 64))
    narrow = SPACE.restricted({name: levels if i == 0 else levels[:1] for i, name in enumerate(SPACE.levels)})
    strategy = FrontStrategy(narrow, errors_of(narrow), PREPARED.weight_budget)
    observations: list[Observation] = []
    for _ in range(6):
        batch = strategy.next_batch(observations)
        if not batch:
            break
        observations += _observed(batch)
    assert strategy.next_batch(observations) == []
    assert len({o.plan.digest for o in observations}) == 2
