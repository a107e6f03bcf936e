"""The strategy: batches are a pure function of what was observed."""

import random
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import pytest

from search.decide.handmade_plans import HEURISTIC
from search.decide.observation import (
    EXCHANGE,
    KNAPSACK,
    REFINE,
    SCREEN,
    SENSITIVITY,
    UNIFORM,
    Observation,
)
from search.decide.steps import FrontStrategy
from space.level import Level
from space.plan import Plan
from tests.search.histories import PREPARED, SPACE, Batches, all_observed, history, make_strategy, points_of
from tests.search.scripted import errors_of, loss, observed, prepared, spec


def _origins(batches: Batches) -> list[str]:
    return ["+".join(dict.fromkeys(p.origin for p in batch)) for batch in batches]


def _best(plans: Sequence[Plan], size: int) -> float:
    return min((loss(plan) for plan in plans if SPACE.weight_bytes(plan) <= size), default=float("inf"))


def test_order_of_batches() -> None:
    """Plans by hand, probes, knapsack plans; points and plans around them in turn; then rounds of refinement."""
    origins = _origins(history())
    assert origins[:3] == [f"{UNIFORM}+{HEURISTIC}", SENSITIVITY, KNAPSACK]
    assert origins[3 : origins.index(EXCHANGE)] in ([SENSITIVITY] * 2, [SENSITIVITY] * 3)
    rounds = origins.index(SCREEN)
    assert set(origins[3:rounds]) == {SENSITIVITY, EXCHANGE}
    assert len(origins) >= rounds + 3
    assert origins[rounds:] == ([SCREEN, REFINE] * len(origins))[: len(origins) - rounds]


def test_points_are_few_and_whole() -> None:
    """At most three; each has its base and neighbours that differ in one module, these on a quarter of the text."""
    strategy, (points, *_) = make_strategy(), points_of(history())
    wide = history()[1]
    assert 1 <= len(points) <= strategy.num_points
    for batch in (wide, *points):
        (base,) = {p.base for p in batch}
        assert base is not None
        neighbours = batch[batch is not wide :]
        assert {p.num_sequences for p in neighbours} == {8}
        changed = [[n for n, v in p.plan.levels if v != base[n]] for p in neighbours]
        assert all(len(names) == 1 for names in changed)
        assert {names[0] for names in changed} == set(SPACE.levels)
    assert all((point[0].plan, point[0].num_sequences) == (point[0].base, 16) for point in points)
    assert len({point[0].plan for point in points} | {wide[0].base}) == len(points) + 1


def test_what_people_do_comes_first() -> None:
    """Whatever the trials, uniform plans are measured first, and then what else is made by hand as far as it fits."""
    for max_trials, count in ((1, 0), (5, 1), (400, 6)):
        batch = make_strategy().next_batch([], max_trials)
        uniform = [plan for _, plan in SPACE.uniform_plans()][:max_trials]
        assert [p.plan for p in batch if p.origin == UNIFORM] == uniform == [p.plan for p in batch[: len(uniform)]]
        assert all(p.num_sequences is None and p.base is None for p in batch)
        assert len(batch) - len(uniform) <= count
    assert HEURISTIC in {p.origin for p in batch}


def test_batches_are_a_pure_function_of_observations() -> None:
    """Strategies that never saw the other batches propose the same; so does one that was asked in any order."""
    batches, old = history(), make_strategy()
    order = list(range(len(batches)))
    random.Random(0).shuffle(order)
    for count in order:
        known = all_observed(batches[:count])
        left = 400 - len(known)
        assert tuple(make_strategy().next_batch(known, left)) == tuple(old.next_batch(known, left)) == batches[count]


def test_the_order_of_probes_does_not_matter() -> None:
    """They are averaged, not followed."""
    batches = history()
    shuffled = observed(batches[1])
    random.Random(0).shuffle(shuffled)
    assert tuple(make_strategy().next_batch([*observed(batches[0]), *shuffled])) == batches[2]


def test_a_seed_changes_only_draws() -> None:
    """Seeds matter once a point was probed; negative ones are seeds too."""
    ours, other = history(), history(seed=-7)
    assert ours[:4] == other[:4]
    assert ours[4:] != other[4:]


@pytest.mark.parametrize("max_trials", [60, 400])
def test_nothing_is_proposed_twice(max_trials: int) -> None:
    """A plan that was measured on the whole text is not asked again, nor one that was screened screened again."""
    proposals = [p for batch in history(max_trials) for p in batch]
    whole = [p.plan.digest for p in proposals if p.base is None and p.origin != SCREEN]
    screened = [p.plan.digest for p in proposals if p.origin == SCREEN]
    probes = [(p.plan.digest, p.base.digest, p.num_sequences) for p in proposals if p.base is not None]
    for found in (whole, screened, probes):
        assert len(found) == len(set(found))
    seen: set[str] = set()
    for proposal in proposals:
        assert proposal.origin != SCREEN or proposal.plan.digest not in seen
        seen |= {proposal.plan.digest} if proposal.num_sequences is None else set()


@pytest.mark.parametrize("max_trials", [1, 7, 20, 40, 60, 90, 130])
def test_few_trials(max_trials: int) -> None:
    """Probes leave room for plans: they are made for all modules at two bit-widths, or at one, or not at all."""
    batches = history(max_trials)
    assert sum(map(len, batches)) <= max_trials
    strategy, modules = make_strategy(), len(SPACE.levels)
    probes = [p for batch in batches for p in batch if p.base == strategy.base]
    room = max_trials - len(batches[0]) - strategy.num_sizes
    assert len(probes) == (2 * modules if room >= 2 * modules else modules if room >= modules else 0)
    assert all(p.num_sequences == strategy.probe_sequences for p in probes)
    for batch in batches[2:]:
        if batch[0].origin == SENSITIVITY:
            before = sum(map(len, batches[: batches.index(batch)]))
            assert before + len(batch) + strategy.round_size <= max_trials
    if max_trials > len(batches[0]):
        assert KNAPSACK in _origins(batches)


def test_sizes_hold_what_will_be_compared() -> None:
    """The budget and every uniform size are solved for; all sizes can be reached."""
    sizes = make_strategy().sizes
    assert PREPARED.weight_budget in sizes
    assert {SPACE.weight_bytes(plan) for _, plan in SPACE.uniform_plans()} <= set(sizes)
    assert sizes == sorted(sizes)
    assert SPACE.smallest_bytes <= sizes[0] <= sizes[-1] <= SPACE.largest_bytes


def test_a_budget_above_all_plans_is_the_largest_plan() -> None:
    """Nothing larger than the largest plan is looked for."""
    assert max(make_strategy(budget=10**9).sizes) == SPACE.largest_bytes
    assert history(budget=10**9, limit=8)


def test_knapsack_plans_beat_uniform_ones() -> None:
    """At most uniform sizes a plan that is no larger is better, although the script holds what no model can know."""
    uniform = [p.plan for p in history()[0] if p.origin == UNIFORM]
    mixed = [p.plan for p in history()[2]]
    assert sum(_best(mixed, SPACE.weight_bytes(plan)) < loss(plan) for plan in uniform) >= 2


@pytest.mark.parametrize(
    ("bits", "values"),
    [((4, 16), {}), ((3,), {"group_sizes": (32, 64, None), "ranks": (0, 4, 8)})],
)
def test_a_menu_of_one_bit_width_is_searched(bits: tuple[int, ...], values: dict[str, Any]) -> None:
    """Every module is probed there too: which of them deserve groups, rank or their dense weights is measured."""
    space = prepared(spec(bits=bits, budget="20bpw", **values)).space
    budget = (space.smallest_bytes + space.largest_bytes) // 2
    strategy = FrontStrategy(space, errors_of(space), budget)
    known: list[Observation] = []
    while batch := strategy.next_batch(known, limit=120 - len(known)):
        known += observed(batch)
    wide = strategy.base
    probed = {n for o in known if o.base == wide for n, v in o.plan.levels if v != wide[n]}
    assert probed == {name for name, levels in space.levels.items() if len(levels) > 1}
    rng = random.Random(0)
    drawn = [Plan.of({n: rng.choice(v) for n, v in space.levels.items()}) for _ in range(4000)]
    fitting = [plan for plan in drawn if space.weight_bytes(plan) <= budget]
    assert len(fitting) > 500
    found = min(loss(o.plan) for o in known if o.base is None and space.weight_bytes(o.plan) <= budget)
    assert found < min(map(loss, fitting))


def test_exchange_plans_beat_knapsack_plans() -> None:
    """At most operating points they lose less than all plans before: pairs of modules are what was not known.

    Where no exchange improves the base, which was measured before, there is nothing new of its size.
    """
    batches = history()
    knapsack, exchange = (
        [p.plan for batch in batches for p in batch if p.origin == origin] for origin in (KNAPSACK, EXCHANGE)
    )
    bases = [batch[0].base for batch in batches[3:] if batch[0].origin == SENSITIVITY]
    ratios = []
    for base in bases:
        assert base is not None
        size = SPACE.weight_bytes(base)
        ratios.append(_best([*knapsack, *exchange], size) / _best(knapsack, size))
    assert sum(ratio < 1 for ratio in ratios) > len(ratios) / 2
    assert fmean(ratios) < 0.98


def test_refinement_never_ends_worse() -> None:
    """Raced plans are chosen among screened ones, and the best plan within the budget gets better by them."""
    batches = history()
    origins = _origins(batches)
    for index, batch in enumerate(batches):
        if origins[index] == REFINE:
            assert {p.plan.digest for p in batch} <= {p.plan.digest for p in batches[index - 1]}
            assert len(batch) <= min(make_strategy().round_size, len(batches[index - 1]))
            assert all(p.num_sequences is None for p in batch)
    rounds = origins.index(SCREEN)
    before, after = (
        _best([p.plan for b in found for p in b if p.num_sequences is None], PREPARED.weight_budget)
        for found in (batches[:rounds], batches)
    )
    assert after <= before


def _warm(observations: Sequence[Observation], budget: int) -> FrontStrategy:
    return FrontStrategy(SPACE, errors_of(SPACE), budget, warm=True)


def _known() -> list[Observation]:
    """Return what a search leaves to later ones."""
    return [
        Observation(o.plan, "known" if o.origin in (KNAPSACK, EXCHANGE, REFINE) else o.origin, *rest)
        for o in all_observed(history())
        if o.origin != SCREEN
        for rest in [(o.sequence_kl, o.base, o.sketch)]
    ]


def test_a_warm_search_far_from_all_points_measures_rivals() -> None:
    """Where nothing tells plans of nearly the same predicted loss apart, more of them are measured."""
    known = _known()
    wide = SPACE.weight_bytes(make_strategy().base)
    points = [size for o in known if o.base is not None and (size := SPACE.weight_bytes(o.base)) < wide]
    near, far = (_warm(known, budget).next_batch(known) for budget in (max(points), int(max(points) * 1.3)))
    assert len(near) < 6 < len(far) <= 16
    assert all(SPACE.weight_bytes(p.plan) <= max(points) * 1.3 for p in far)


@pytest.mark.parametrize("share", [0.7, 1.0, 1.25])
def test_a_warm_search_answers_once(share: float) -> None:
    """A few plans within the new budget, no probes; then nothing."""
    known = _known()
    budget = int(PREPARED.weight_budget * share)
    strategy = _warm(known, budget)
    batch = strategy.next_batch(known)
    assert len(batch) <= 16
    assert batch or share == 1
    assert not batch or {(p.origin, p.num_sequences, p.base) for p in batch} == {(KNAPSACK, None, None)}
    assert all(SPACE.weight_bytes(p.plan) <= budget for p in batch)
    assert not {p.plan.digest for p in batch} & {o.plan.digest for o in known if o.base is None}
    assert strategy.next_batch([*known, *observed(batch)]) == []


def test_a_budget_has_its_own_operating_point() -> None:
    """Also where earlier jobs probed as many points as a search has, all of them elsewhere; one near is enough."""
    known = all_observed(history())
    bases = {o.base.digest: o.base for o in known if o.base is not None}
    points = [size for base in bases.values() if (size := SPACE.weight_bytes(base)) < PREPARED.weight_budget * 1.5]
    assert len(points) == make_strategy().num_points
    budget = int(min(points) * 0.75)
    far = FrontStrategy(SPACE, errors_of(SPACE), budget)
    batch, found = far.next_batch(known), list(known)
    while batch and batch[0].origin != SENSITIVITY:
        found += observed(batch)
        batch = far.next_batch(found)
    assert batch
    assert batch[0].plan == batch[0].base
    assert 0.85 * budget < SPACE.weight_bytes(batch[0].plan) <= budget
    near = FrontStrategy(SPACE, errors_of(SPACE), int(min(points) * 1.1))
    assert all(p.origin != SENSITIVITY for p in near.next_batch(known))


def test_nothing_left() -> None:
    """A space whose every plan was measured ends the search with an empty batch."""
    levels = (Level(2, 64), Level(8, 64))
    narrow = SPACE.restricted({name: levels if i == 0 else levels[:1] for i, name in enumerate(SPACE.levels)})
    strategy = FrontStrategy(narrow, errors_of(narrow), PREPARED.weight_budget)
    observations: list[Observation] = []
    for _ in range(8):
        batch = strategy.next_batch(observations)
        if not batch:
            break
        observations += observed(batch)
    assert strategy.next_batch(observations) == []
    assert len({o.plan.digest for o in observations}) == 2
