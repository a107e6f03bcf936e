"""Searches under limits: trials go where they decide, whatever their number."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from statistics import fmean

import pytest

from search.decide.coarse import CoarseStrategy
from search.decide.handmade_plans import HEURISTIC
from search.decide.observation import KNAPSACK, SENSITIVITY, UNIFORM, Observation, Proposal
from space.plan import Plan
from storage.records import JobState, TrialState
from tests.search.histories import SPACE, all_observed, history
from tests.search.house import House, cancel_after, comparable, undisturbed
from tests.search.scripted import ScriptedExecutor, errors_of, loss, module_prices, observed, prepared, spec

LIMITS = (1, 2, 5, 10, 20, 30, 45, 60)
SIZES = [SPACE.weight_bytes(plan) for _, plan in SPACE.uniform_plans()]
BUDGETS = (int(SIZES[0] * 1.2), prepared(spec()).weight_budget, int(SIZES[2] * 1.1))


def _strategy(max_trials: int, budget: int = BUDGETS[1], **values: object) -> CoarseStrategy:
    given = {"prices": dict(module_prices().prices), **values}
    return CoarseStrategy(SPACE, errors_of(SPACE), budget, max_trials=max_trials, **given)  # type: ignore[arg-type]


@cache
def _batches(max_trials: int, budget: int = BUDGETS[1], seed: int = 0) -> tuple[tuple[Proposal, ...], ...]:
    strategy, batches = _strategy(max_trials, budget, seed=seed), list[tuple[Proposal, ...]]()
    while (left := max_trials - sum(map(len, batches))) > 0:
        batch = strategy.next_batch(all_observed(batches), left)
        if not batch:
            break
        batches.append(tuple(batch))
    return tuple(batches)


def _best(batches: Sequence[Sequence[Proposal]], budget: int) -> Plan:
    whole = [p.plan for batch in batches for p in batch if p.base is None and p.num_sequences is None]
    return min((p for p in whole if SPACE.weight_bytes(p) <= budget), key=loss)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("max_trials", LIMITS)
def test_every_trial_is_used(max_trials: int, budget: int) -> None:
    """Never one more, and none is asked twice; the first batch has the uniform plan that must not be better."""
    batches = _batches(max_trials, budget)
    proposals = [p for batch in batches for p in batch]
    assert max_trials - 1 <= len(proposals) <= max_trials  # this small model has no more to ask at times
    assert len(set(proposals)) == len(proposals)
    fitting = [plan for _, plan in SPACE.uniform_plans() if SPACE.weight_bytes(plan) <= budget]
    assert batches[0][0] == Proposal(fitting[-1], UNIFORM)
    if max_trials > 1:
        assert KNAPSACK in {p.origin for p in batches[0]}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("max_trials", LIMITS[1:])
def test_the_budget_is_filled(max_trials: int, budget: int) -> None:
    """By the best plan that is known, to within a hundredth; and it is better than the uniform plan that fits."""
    best = _best(_batches(max_trials, budget), budget)
    assert SPACE.weight_bytes(best) >= 0.97 * budget  # a step of this small model is one to three hundredths
    fitting = [plan for _, plan in SPACE.uniform_plans() if SPACE.weight_bytes(plan) <= budget]
    assert loss(best) < loss(fitting[-1])


def test_few_trials_cost_little() -> None:
    """Against a search without a limit, over budgets and seeds; more trials are no worse than fewer in the mean."""
    ratios = {}
    for max_trials in (10, 20, 40, 60):
        found = []
        for budget in BUDGETS:
            whole = loss(_best(history(400, budget), budget))
            found += [loss(_best(_batches(max_trials, budget, seed), budget)) / whole for seed in range(3)]
        ratios[max_trials] = fmean(found)
        assert max(found) < 1.5
    assert ratios[20] < 1.3
    assert ratios[40] < 1.15
    assert all(more <= fewer * 1.01 for fewer, more in pairwise(ratios.values()))


def test_guards_are_those_around_the_budget() -> None:
    """One in six trials; the largest uniform plan that fits, then whatever made by hand is nearest."""
    for max_trials, count in ((6, 1), (12, 2), (30, 5), (60, 10)):
        by_hand = [p for p in _batches(max_trials)[0] if p.origin in (UNIFORM, HEURISTIC)]
        assert len(by_hand) == min(count, len(SIZES) + 3)
    distance = [abs(SPACE.weight_bytes(p.plan) - BUDGETS[1]) for p in _batches(12)[0] if p.origin != KNAPSACK]
    assert max(distance) <= sorted(abs(size - BUDGETS[1]) for size in SIZES)[1]


def test_probes_leave_trials_for_plans() -> None:
    """They are neighbours of the best plan that is known at the budget, steps up and down in turn."""
    for max_trials in (30, 45, 60):
        batches = _batches(max_trials)
        probes = next(batch for batch in batches if batch[0].origin == SENSITIVITY)
        base = probes[0].base
        assert base == _best(batches[: batches.index(probes)], BUDGETS[1])
        changed = [SPACE.weight_bytes(p.plan) - SPACE.weight_bytes(base) for p in probes[1:]] if base else []
        ups, downs = sum(c > 0 for c in changed), sum(c < 0 for c in changed)
        assert ups + downs == len(changed) >= 8
        assert min(ups, downs) >= 3
        after = [p for batch in batches[batches.index(probes) + 1 :] for p in batch if p.base is None]
        assert len(after) >= 5


@pytest.mark.parametrize("max_trials", [20, 60])
def test_batches_are_a_pure_function_of_observations(max_trials: int) -> None:
    """Strategies that never saw the other batches propose the same."""
    batches = _batches(max_trials)
    for count in range(len(batches)):
        known = all_observed(batches[:count])
        assert tuple(_strategy(max_trials).next_batch(known, max_trials - len(known))) == batches[count]


def test_without_prices_errors_are_prices() -> None:
    """Some modules' prices are missing: they take those of their type; all are: every error costs the same."""
    prices = dict(module_prices().prices)
    some = _strategy(20, prices={n: p for n, p in prices.items() if n != "layers.0.q_proj"}).model([])
    level = SPACE.levels["layers.0.q_proj"][0]
    error = errors_of(SPACE)["layers.0.q_proj"][level]
    assert some.losses["layers.0.q_proj"][level] == pytest.approx(prices["layers.1.q_proj"] * error)
    assert _strategy(20, prices={}).model([]).losses == errors_of(SPACE)
    found: list[Observation] = []
    while batch := _strategy(30, prices={}).next_batch(found, 30 - len(found)):
        found += observed(batch)
    assert len(found) == 30


def test_a_limited_job_says_what_the_limit_cost(house: House) -> None:
    """In its log and with its front; one gradient pass is made, counted, and found by the next job."""
    house.submit(max_trials=20)
    executor = ScriptedExecutor()
    assert house.run(executor).state is JobState.DONE
    assert len(executor.priced) == 1
    assert any("20 trials do not allow all steps" in text for text in house.notes.phases)
    first = next(text for text in house.notes.phases if text.startswith("measuring"))
    trials = house.store.list_trials("one")
    origins = dict.fromkeys(t.origin for t in trials if t.sampler_state.batch == 0)
    assert len(origins) > 1
    assert f" {' and '.join(origins)} plans" in first
    document = house.document()
    assert document.advice is not None
    assert "20 of up to" in document.advice
    assert "--refine" in document.advice
    measured = [m for t in house.store.list_trials("one") for m in (t.measurement, t.held_out) if m]
    lost = house.store.get_job("one").facts.spent
    assert lost is not None
    assert lost["gradient pass"] == 640
    assert document.cost.token_forwards == sum(m.token_forwards for m in measured) + sum(lost.values())
    house.submit("two", max_trials=25)
    again = ScriptedExecutor()
    house.run(again, "two")
    assert again.priced == []
    assert "gradient pass" not in (house.store.get_job("two").facts.spent or {})


def test_refine_goes_on_from_a_limited_job(house: House) -> None:
    """What it measured costs nothing again, and the front is one of a whole search: no advice is left."""
    house.submit(max_trials=20)
    house.run(before := ScriptedExecutor())
    house.submit("two", max_trials=200, refine=True)
    house.run(after := ScriptedExecutor(), "two")
    first, second = house.document("one").recommended, house.document("two").recommended
    assert first is not None
    assert second is not None
    assert second.kl_divergence <= first.kl_divergence
    assert house.document("two").advice is None
    whole = {t.plan for t in before.searched if t.num_sequences is None}
    assert not whole & {t.plan for t in after.searched if t.num_sequences is None and t.first_sequence == 0}


def test_a_model_without_gradients_is_searched_all_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log says why, and that errors are prices."""
    none = replace(module_prices(), prices=(), reason="torch cannot differentiate it: no backward")
    monkeypatch.setattr("tests.search.scripted.module_prices", lambda: none)
    house.submit(max_trials=20)
    assert house.run(ScriptedExecutor()).state is JobState.DONE
    assert any("no backward" in text for text in house.notes.phases)
    assert len(house.states()) == 20


@pytest.mark.parametrize("count", [0, 3, 9, 17])
def test_a_limited_job_resumes(house: House, count: int) -> None:
    """Wherever it was cut off, its front is that of an undisturbed one."""
    expected, num_searched = undisturbed(max_trials=20)
    house.submit(max_trials=20)
    house.run(before := ScriptedExecutor(on_evaluate=cancel_after(house, count)))
    assert house.resume(after := ScriptedExecutor()).state is JobState.DONE
    assert len(before.searched) + len(after.searched) == num_searched
    assert comparable(house.document()) == expected
    assert set(house.states()) == {TrialState.COMPLETE}
