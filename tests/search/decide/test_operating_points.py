"""Operating points: where pairs are worth their probes, which neighbours tell of them, and what plans follow."""

from collections.abc import Sequence
from dataclasses import replace
from math import log

import pytest

from search.decide.additive_model import AdditiveModel
from search.decide.knapsack import Knapsack
from search.decide.observation import KNAPSACK, SCREEN, SENSITIVITY, Observation, Proposal
from search.decide.operating_points import WINDOW, Points, options_of
from space.level import Level
from space.plan import Plan
from tests.search.scripted import loss, observed, prepared, share, spec

PREPARED = prepared(spec())
SPACE = PREPARED.space
WIDE = SPACE.uniform_plan(Level(8, 64))
PRICES = AdditiveModel({name: {v: share(name, v) for v in levels} for name, levels in SPACE.levels.items()})
MIDDLE = SPACE.weight_bytes(SPACE.uniform_plan(Level(4, 64)))


def _points(observations: Sequence[Observation]) -> Points:
    return Points(SPACE, observations, PRICES, WIDE)


def _seen(plan: Plan, ratio: float) -> Observation:
    """Return a plan that lost so many times what the additive model says."""
    return Observation(plan, KNAPSACK, (PRICES.predict(plan) * ratio,))


def _solved(*sizes: int) -> list[Plan]:
    return _points([]).solve(sizes)


def _around(base: Plan) -> list[Observation]:
    plans = [base, *_points([]).neighbours(base)]
    return observed([Proposal(plan, SENSITIVITY, 16, base) for plan in plans])


def test_the_best_within_a_size() -> None:
    """The least KL that fits, whatever else was measured; probes and screened plans do not count."""
    plans = [plan for _, plan in SPACE.uniform_plans()]
    whole = observed([Proposal(plan, KNAPSACK) for plan in reversed(plans)])
    other = [*observed([Proposal(WIDE, SCREEN, 8)]), *_around(WIDE)]
    points = _points([*whole[1:], *other])
    for plan in plans[:-1]:
        size = SPACE.weight_bytes(plan)
        assert (best := points.best_within(size)) is not None
        assert best.plan == plan
        below = [o for o in whole[1:] if SPACE.weight_bytes(o.plan) < size]
        assert points.best_within(size - 1) == min(below, key=lambda o: o.kl_divergence, default=None)
    assert (largest := points.best_within(10**9)) is not None
    assert largest.plan == plans[-2]


def test_rivals_of_the_best_plan() -> None:
    """Plans of nearly its predicted loss within its size, least loss first; none where a point's model is trusted."""
    size = int(MIDDLE * 1.3)
    (best,) = _solved(size)
    rivals = _points([]).rivals(size)
    assert len(SPACE.levels) >= len(rivals) == len(set(rivals)) > 5
    assert best not in rivals
    assert all(SPACE.weight_bytes(plan) <= size for plan in rivals)
    losses = [PRICES.predict(plan) for plan in rivals]
    assert losses == sorted(losses)
    assert PRICES.predict(best) <= losses[0] < PRICES.predict(best) * 1.01
    assert _points(_around(best)).rivals(size) == []
    assert _points([_seen(best, 1.0)]).rivals(size) == []


def test_a_larger_plan_that_loses_more_is_never_the_best() -> None:
    """Within a size the smaller one is."""
    small, large = _solved(MIDDLE, int(MIDDLE * 1.2))
    points = _points([_seen(large, 50.0), _seen(small, 1.0)])
    assert (best := points.best_within(10**9)) is not None
    assert best.plan == small


def test_the_budget_comes_first() -> None:
    """Although losses add up worse elsewhere."""
    sizes = [int(MIDDLE * ratio) for ratio in (0.78, 1.0, 1.3)]
    low, middle, high = _solved(*sizes)
    points = _points([_seen(low, 3.0), _seen(middle, 1.2), _seen(high, 2.0)])
    assert points.base_at(MIDDLE) == middle


def test_the_budget_has_a_point_near() -> None:
    """Unless there is one, whatever was probed elsewhere; not where nothing that large was measured."""
    low, near, high = _solved(*(int(MIDDLE * ratio) for ratio in (0.7, 0.95, 1.0)))
    seen = [_seen(plan, 1.2) for plan in (low, near, high)]
    assert _points([*seen, *_around(low)]).base_at(MIDDLE) == high
    assert _points([*seen, *_around(near)]).base_at(MIDDLE) is None
    assert _points([*seen[:1], *_around(low)]).base_at(MIDDLE) is None
    assert _points([*seen[:2], *_around(low)]).base_at(2 * MIDDLE) is None


def test_then_the_worst_residual_at_a_distance() -> None:
    """Neither next to a point that was probed nor far from all of them; of the others where losses add up worst."""
    sizes = [int(MIDDLE * ratio) for ratio in (0.6, 0.76, 0.95, 1.0, 1.1, 1.27, 2.0)]
    plans = _solved(*sizes)
    ratios = (9.0, 1.5, 8.0, 1.2, 7.0, 1.3, 6.0)
    seen = [_seen(plan, ratio) for plan, ratio in zip(plans, ratios, strict=True)]
    probed = [*seen, *_around(plans[3])]
    taken = SPACE.weight_bytes(plans[3])
    near = [p for p, s in zip(plans, sizes, strict=True) if 0.2 <= abs(log(s / taken)) <= 0.36]
    assert near == [plans[1], plans[5]]
    assert _points(probed).next_base(sizes, MIDDLE) == plans[1]
    assert _points([*probed, *_around(plans[1])]).next_base(sizes[1:], MIDDLE) == plans[5]
    assert _points([*probed, *_around(plans[1]), *_around(plans[5])]).next_base(sizes[1:-1], MIDDLE) is None


def test_no_point_is_probed_twice() -> None:
    """Not the nearly lossless plan, whose probes came first, nor one that is still the best of a larger size."""
    (small,) = _solved(MIDDLE)
    sizes = [int(MIDDLE * ratio) for ratio in (1.0, 1.3)]
    for points in (_points([_seen(WIDE, 3.0)]), _points([_seen(small, 3.0), *_around(small)])):
        for budget in (MIDDLE, 10**6):
            assert points.base_at(budget) is points.next_base([*sizes, 10**6], budget) is None


@pytest.mark.parametrize("ratio", [0.5, 1.0, 1.03])
def test_only_the_budget_where_losses_add_up(ratio: float) -> None:
    """What the additive model says well enough needs no pairs elsewhere; at the budget other plans may be better."""
    sizes = [int(MIDDLE * r) for r in (0.78, 1.0, 1.3)]
    plans = _solved(*sizes)
    seen = [_seen(plan, ratio) for plan in plans]
    assert _points(seen).base_at(MIDDLE) == plans[1]
    probed = _points([*seen, *_around(plans[1])])
    assert probed.base_at(MIDDLE) is probed.next_base(sizes, MIDDLE) is None
    assert _points([]).base_at(MIDDLE) is _points([]).next_base(sizes, MIDDLE) is None


def test_neighbours_are_steps_on_the_hull() -> None:
    """Each module at the hull's next smaller level and at its next larger one, as far as there are; nothing else."""
    knapsack = Knapsack(options_of(SPACE, PRICES))
    off = {n: next(v for v in levels if v not in knapsack.hull(n)) for n, levels in SPACE.levels.items()}
    lowest = {n: knapsack.hull(n)[0] for n in SPACE.levels}
    for base in (*_solved(MIDDLE), Plan.of(off), Plan.of(lowest), WIDE):
        changes: dict[str, list[Level]] = {name: [] for name in SPACE.levels}
        for plan in _points([]).neighbours(base):
            ((name, level),) = [(n, v) for n, v in plan.levels if v != base[n]]
            changes[name].append(level)
        for name, found in changes.items():
            hull, sizes = knapsack.hull(name), SPACE.sizes[name]
            below = [v for v in hull if sizes[v] < sizes[base[name]]]
            above = [v for v in hull if sizes[v] > sizes[base[name]]]
            assert found == [*below[-1:], *above[:1]]


def test_bases_are_in_the_order_of_probing() -> None:
    """Without the nearly lossless plan."""
    one, other = _solved(MIDDLE, int(MIDDLE * 1.3))
    observations = [*_around(WIDE)[1:], *_around(other), *_around(one)]
    assert _points(observations).bases == [other, one]


def test_candidates_without_a_point_are_the_additive_models() -> None:
    """One per size that can be reached."""
    sizes = [MIDDLE, int(MIDDLE * 1.3), SPACE.smallest_bytes - 1]
    assert _points([]).candidates(sizes, 4, 0) == _solved(*sizes[:2])


def test_candidates_near_a_point() -> None:
    """Several per size, all of them fitting, some better than the base; far from it the additive model's alone."""
    (base,) = _solved(MIDDLE)
    points = _points(_around(base))
    for size in (MIDDLE, int(MIDDLE * 1.1), int(MIDDLE * 0.9)):
        found = points.candidates([size], 4, 0)
        assert 1 <= len(found) <= 9
        assert _solved(size)[0] in found
        assert all(SPACE.weight_bytes(plan) <= size for plan in found)
    assert min(loss(plan) for plan in points.candidates([MIDDLE], 4, 0)) <= loss(base)
    far = int(SPACE.weight_bytes(base) * 1.01 * 2.72**WINDOW)
    assert points.candidates([far], 4, 0) == _solved(far)


@pytest.mark.parametrize("factor", [0.8, 0.9, 1.0, 1.1])
def test_a_group_of_a_whole_row_may_be_contested(factor: float) -> None:
    """Its size is no number: such levels are in the order too."""
    space = prepared(spec(group_sizes=(32, None), sparsities=(0.0,), ranks=(0,))).space
    prices = AdditiveModel({name: {v: share(name, v) for v in levels} for name, levels in space.levels.items()})
    alone = Points(space, [], prices, space.uniform_plan(Level(8, 32)))
    (base,) = alone.solve([int(MIDDLE * factor)])
    plans = [base, *alone.neighbours(base)]
    points = replace(alone, observations=observed([Proposal(plan, SENSITIVITY, 16, base) for plan in plans]))
    size = space.weight_bytes(base)
    assert points.contested(base, [int(size * 0.9), int(size * 1.1)], seed=0)


def test_contested_neighbours_are_what_good_plans_use() -> None:
    """Every step away from the base that the best plans of its size take, and not every neighbour there is."""
    (base,) = _solved(MIDDLE)
    points = _points(_around(base))
    contested = points.contested(base, [MIDDLE], seed=0)
    assert len(contested) == len({plan.digest for plan in contested})
    assert {plan.digest for plan in contested} < {plan.digest for plan in points.neighbours(base)}
    best = points.candidates([MIDDLE], 1, seed=0)[0]
    steps = {base.replace({name: level}).digest for name, level in best.levels if level != base[name]}
    assert steps <= {plan.digest for plan in contested}
    assert _points([]).contested(base, [MIDDLE], seed=0) == []


def test_a_point_without_sketches_is_no_model() -> None:
    """Nor is one whose own probe failed, or all of whose neighbours did."""
    (base,) = _solved(MIDDLE)
    around = _around(base)
    bare = [Observation(o.plan, o.origin, o.sequence_kl, o.base) for o in around]
    for observations in (bare, around[1:], around[:1]):
        assert _points(observations).candidates([MIDDLE], 4, 0) == [base]


def test_a_memory_changes_nothing() -> None:
    """Points that share one find what others find, whatever was asked before."""
    one, other = _solved(MIDDLE, int(MIDDLE * 1.25))
    first, second = _around(one), [*_around(one), *_around(other)]
    shared = _points(first)
    shared.candidates([MIDDLE], 4, 0)
    for observations in (second, first, second):
        again = Points(SPACE, observations, PRICES, WIDE, shared.memory)
        sizes = [MIDDLE, int(MIDDLE * 1.25)]
        assert again.candidates(sizes, 4, 0) == _points(observations).candidates(sizes, 4, 0)
