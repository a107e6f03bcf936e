"""Why a module has its level: shares, neighbours and the going rate, on the scripted model."""

import json
import random

import pytest

from search.decide.additive_model import AdditiveModel
from search.decide.explain import explain, kept_losses, losses_from_facts
from search.decide.knapsack import Knapsack, Option
from space.cost import module_bytes
from space.errors import NotFoundError
from space.level import DENSE, Level
from space.plan import Plan
from space.results.explanation import Explanation, Move
from storage.job_facts import JobFacts
from tests.search.scripted import inventory, prepared, share, spec

SPACE = prepared(spec()).space
MODEL = AdditiveModel({name: {v: share(name, v) for v in levels} for name, levels in SPACE.levels.items()})


def _best_plan(size_bytes: int) -> Plan:
    options = {
        name: [Option(v, SPACE.sizes[name][v], loss) for v, loss in losses.items()]
        for name, losses in MODEL.losses.items()
    }
    levels = Knapsack(options).solve(size_bytes - SPACE.inventory.others_bytes)
    assert levels is not None
    return Plan.of(levels)


def _cheapest(name: str, price: float) -> Level:
    losses, sizes = MODEL.losses[name], SPACE.sizes[name]
    return min(losses, key=lambda level: losses[level] + price * sizes[level])


def _explained(plan: Plan, kl_divergence: float = 0.5) -> Explanation:
    return explain(inventory(), "packed", MODEL, plan, "p3", kl_divergence)


SIZES = [int(SPACE.smallest_bytes * f) for f in (1.1, 1.4, 1.9, 2.6)]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_shares_add_up(size_bytes: int) -> None:
    """To the measured KL; bytes are those of the plan; the largest share comes first; every module is there once."""
    plan = _best_plan(size_bytes)
    found = _explained(plan)
    assert sum(r.kl_share for r in found.modules) == pytest.approx(1)
    assert sum(r.kl_divergence for r in found.modules) == pytest.approx(0.5)
    assert found.predicted_kl_divergence == pytest.approx(MODEL.predict(plan))
    assert sum(r.size_bytes for r in found.modules) + inventory().others_bytes == SPACE.weight_bytes(plan)
    assert [r.kl_share for r in found.modules] == sorted((r.kl_share for r in found.modules), reverse=True)
    assert {r.module: r.level for r in found.modules} == plan.to_json()
    dense = {m.name: m.weight.size_bytes for m in inventory().modules}
    assert all(r.saved_bytes == dense[r.module] - r.size_bytes for r in found.modules)


@pytest.mark.parametrize("price", [1e-4, 1e-5, 1e-6, 1e-7])
def test_a_plan_of_one_price_agrees_with_the_going_rate(price: float) -> None:
    """Where all modules pay one price, going down costs more than the rate and going up gains less, everywhere."""
    found = _explained(Plan.of({name: _cheapest(name, price) for name in MODEL.losses}), kl_divergence=0.0)
    assert found.going_rate <= price
    for reason in found.modules:
        assert reason.down is None or reason.down.rate >= price
        assert reason.up is None or reason.up.rate <= found.going_rate * (1 + 1e-9)
        assert "by price alone" not in reason.why


@pytest.mark.parametrize("seed", range(5))
def test_neighbours_are_the_next_useful_levels(seed: int) -> None:
    """Nothing useful lies between a level and its neighbours, whatever the plan."""
    rng = random.Random(seed)
    found = _explained(Plan.of({name: rng.choice(levels) for name, levels in SPACE.levels.items()}))
    scale = 0.5 / found.predicted_kl_divergence
    for reason in found.modules:
        losses, sizes = MODEL.losses[reason.module], SPACE.sizes[reason.module]
        own = next(v for v in losses if str(v) == reason.level)
        for move in (m for m in (reason.up, reason.down) if m is not None):
            other = next(v for v in losses if str(v) == move.level)
            assert move.bytes_change == sizes[other] - sizes[own]
            assert move.kl_change == pytest.approx(scale * (losses[other] - losses[own]))
            low, high = sorted((sizes[own], sizes[other]))
            assert not [v for v in losses if low < sizes[v] < high and losses[v] < min(losses[own], losses[other])]
        assert reason.up is None or (reason.up.bytes_change > 0 > reason.up.kl_change)
        assert reason.down is None or reason.down.bytes_change < 0


def test_going_rates_fall_with_size() -> None:
    """The more memory there is, the less a byte is worth."""
    rates = [_explained(_best_plan(size), kl_divergence=0.0).going_rate for size in SIZES]
    assert rates == sorted(rates, reverse=True)


def test_sentences() -> None:
    """Both neighbours with their price; ends and pinned modules have fewer."""
    model = AdditiveModel(
        {name: {Level(3, 64): 0.3, Level(4, 64): 0.1, Level(8, 64): 0.0} for name in SPACE.levels}
        | {"embed_tokens": {DENSE: 0.0}}
    )
    plan = Plan.of({name: Level(4, 64) for name in SPACE.levels} | {"embed_tokens": DENSE})
    found = explain(inventory(), "packed", model, plan, "p0", 0.8)
    why = {r.module: r.why for r in found.modules}
    q_proj = inventory().module("layers.0.q_proj")
    saved = module_bytes(q_proj, Level(4, 64)) - module_bytes(q_proj, Level(3, 64))
    assert why["layers.0.q_proj"].startswith(
        f"kept at b4-g64: going down to b3-g64 saves {saved:,} bytes and costs 0.2 KL, "
    )
    assert "going up to b8-g64 takes " in why["layers.0.q_proj"]
    assert "x the going rate" in why["layers.0.q_proj"]
    assert why["embed_tokens"] == "dense is its only useful level"
    coarse = explain(inventory(), "packed", model, plan.replace({"layers.0.q_proj": Level(3, 64)}), "p0", 0.8)
    assert next(r for r in coarse.modules if r.module == "layers.0.q_proj").why.endswith(
        "by price alone it would go up"
    )


def test_a_level_that_was_not_priced_is_an_error() -> None:
    """It names the module and the level."""
    plan = _best_plan(SIZES[0]).replace({"layers.1.o_proj": Level(7, 16)})
    with pytest.raises(NotFoundError, match=r"Point p3 gives layers\.1\.o_proj the level b7-g16"):
        _explained(plan)


def test_losses_go_through_json() -> None:
    """As a job's facts keep them; a job that kept none has no model."""
    facts = json.loads(json.dumps(JobFacts(model=kept_losses(MODEL)).to_json()))
    assert losses_from_facts(JobFacts.from_json(facts)) == MODEL
    assert losses_from_facts(JobFacts()) is None


def test_a_plan_without_loss_has_no_shares() -> None:
    """A lossless plan divides nothing by zero."""
    model = AdditiveModel({name: {DENSE: 0.0, Level(4, 64): 0.1} for name in SPACE.levels})
    found = explain(inventory(), "packed", model, Plan.of(dict.fromkeys(SPACE.levels, DENSE)), "p9", 0.0)
    assert {r.kl_share for r in found.modules} == {0.0}
    assert all(isinstance(r.down, Move) and r.up is None for r in found.modules)
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["point"] == "p9"
