"""Whatever the model, the budget and the seed: plans keep a target's groups, its levels and the limit of bytes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Any

import numpy as np
import pytest

from search.decide.additive_model import AdditiveModel, Probe, fit_probes, price_errors
from search.decide.coarse import CoarseStrategy
from search.decide.explain import explain
from search.decide.handmade_plans import heuristic_plans
from search.decide.observation import Observation, Proposal
from search.decide.operating_points import Points
from search.decide.steps import FrontStrategy
from search.measure.answer_keys import required_levels
from search.study.plan_codec import PlanCodec
from space.errors import SpecError
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import DENSE, Level, parse_level
from space.menu import Menu, SearchSpace, build_space
from space.plan import Plan
from space.site import Site
from space.targets.compressed_tensors_target import COMPRESSED_TENSORS
from space.targets.gguf_target import GGUF
from space.targets.site_groups import grouped
from space.targets.target_table import TARGETS, is_legal
from tests.space.values import module
from tightfit.export.checkpoint import check_format

_FUSED = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}
_ENTRIES = 24
_LOW, _HIGH = Level(2, 64), Level(4, 64)


def _fused(of: ModuleInfo) -> str | None:
    before, _, kind = of.name.rpartition(".")
    return f"{before}.{_FUSED[kind]}" if kind in _FUSED else None


@pytest.fixture(autouse=True)
def _a_target_that_fuses(monkeypatch: pytest.MonkeyPatch) -> None:
    target = replace(COMPRESSED_TENSORS, name="fusing", groups=lambda inventory: grouped(inventory, _fused))
    monkeypatch.setitem(TARGETS, "fusing", target)


@dataclass(frozen=True)
class _Case:
    """A random model and its space; each module's error moves the answers in a direction of its own."""

    space: SearchSpace
    directions: dict[str, np.ndarray]
    seed: int

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        return TARGETS[self.space.target].groups(self.space.inventory)

    def error(self, level: Level) -> float:
        return 0.0 if level.is_dense else 4.0**-level.rate * (1 + (level.group_size or 128) / 512)

    def errors(self) -> dict[str, dict[Level, float]]:
        return {name: {v: self.error(v) for v in levels} for name, levels in self.space.levels.items()}

    def sketch(self, plan: Plan) -> np.ndarray:
        found: np.ndarray = sum(self.error(v) ** 0.5 * self.directions[n] for n, v in plan.levels) + np.zeros(_ENTRIES)
        return found.astype(np.float32)

    def observed(self, proposal: Proposal) -> Observation:
        sketch = self.sketch(proposal.plan)
        kl = float(sketch @ sketch) / _ENTRIES / 2 + 1e-9
        sequences = tuple(kl * (1 + 0.1 * (i % 3 - 1)) for i in range(proposal.num_sequences or 8))
        base = proposal.base
        return Observation(proposal.plan, proposal.origin, sequences, base, sketch if base is not None else None)


def _modules(rng: Random, columns: int) -> Iterator[ModuleInfo]:
    yield module("embed_tokens", rng.choice((40, 64)), columns, "embedding")
    for block in range(rng.randint(1, 3)):
        rows = rng.choice((32, 64))
        for kind, shape in (("q_proj", (rows, columns)), ("k_proj", (32, columns)), ("v_proj", (32, columns))):
            if kind != "v_proj" or rng.random() < 0.9:  # some models have no v_proj of their own
                yield module(f"layers.{block}.attn.{kind}", *shape, block=block)
        yield module(f"layers.{block}.attn.o_proj", columns, rows, block=block)
        if rng.random() < 0.4:
            yield from _experts(f"layers.{block}.experts", rng.randint(1, 3), columns, block)
            continue
        for kind in ("gate_proj", "up_proj"):
            yield module(f"layers.{block}.mlp.{kind}", 96, columns, block=block)
        yield module(f"layers.{block}.mlp.down_proj", columns, 96, block=block)


def _experts(name: str, count: int, columns: int, block: int) -> Iterator[ModuleInfo]:
    for expert in range(count):  # each is a site of its own, and all of them are one parameter
        site = Site(f"{name}.down_proj", (count, 32, columns), (f"{name}.{expert}.down_proj.weight",))
        weight = TensorInfo(f"{name}.{expert}.down_proj.weight", (32, columns), "BF16")
        yield ModuleInfo(f"{name}.{expert}.down_proj", "linear", weight, block, site=site)


def _case(seed: int) -> _Case:
    rng = Random(seed)
    target = rng.choice(("fusing", "vllm", "gguf", "packed"))
    modules = tuple(_modules(rng, rng.choice((64, 96, 256))))
    blocks = 1 + max(m.block or 0 for m in modules)
    bits = rng.choice(((2, 3, 4, 8), (3, 4, 6), (2, 4, 16)))
    kinds = {"gguf": GGUF.kinds, "vllm": ("integer", "integer-a8")}.get(target, ("integer",))
    sizes = rng.choice(((32, None), (64, 32), (128, 64, None)))
    menu = Menu(bits, sizes, (0.0,), (0,), kinds)
    inventory = Inventory(modules, (TensorInfo("norm.weight", (64,), "BF16"),), None, blocks)
    found = build_space(inventory, menu, target, ())
    free = [m for m in modules if len(found.levels[m.name]) > 1]
    if free and rng.random() < 0.2:
        pinned = rng.choice(free)
        pin = rng.choice([v for v in found.levels[pinned.name] if not v.is_dense] or [DENSE])
        found = build_space(inventory, menu, target, [(f"^{pinned.name}$", pin)])
    draws = np.random.default_rng(seed)
    directions = {m.name: draws.lognormal(0, 0.7) * draws.standard_normal(_ENTRIES) for m in modules}
    return _Case(found, directions, seed)


def _assert_held(case: _Case, plan: Plan) -> None:
    space = case.space
    assert list(plan.mapping) == list(space.levels)
    assert space.holds(plan)
    assert all(is_legal(m, plan[m.name], space.target) for m in space.inventory.modules)
    assert all(len({plan[name] for name in names}) == 1 for names in case.groups)


def _asked(case: _Case, strategy: FrontStrategy, max_trials: int) -> list[Proposal]:
    """Return what a search asks that may measure so many plans."""
    asked: list[Proposal] = []
    while len(asked) < max_trials and (
        batch := strategy.next_batch([case.observed(p) for p in asked], max_trials - len(asked))
    ):
        asked += batch
    return asked


@pytest.mark.parametrize("tenth", range(10))
def test_no_plan_breaks_a_group_or_the_budget(tenth: int) -> None:
    """A hundred models each: of the knapsack, made by hand, uniform, drawn by a sampler, of whole searches."""
    for seed in range(100 * tenth, 100 * tenth + 100):
        case, rng = _case(seed), Random(seed)
        space, errors = case.space, case.errors()
        budget = rng.randint(space.smallest_bytes, space.largest_bytes)
        prices = {name: float(d @ d) / _ENTRIES for name, d in case.directions.items()}
        by_hand = [plan for _, plan in [*space.uniform_plans(), *heuristic_plans(space)]]
        codec = PlanCodec(space)
        drawn = codec.plan({name: rng.randint(0, d.high) for name, d in codec.distributions.items()})  # type: ignore[attr-defined]
        assert codec.plan(codec.params(drawn)) == drawn
        points = Points(space, [], price_errors(errors, prices), by_hand[-1])
        solved = [*points.solve([budget]), *(points.runners_up(budget) if seed % 5 == 0 else ())]
        assert solved
        assert all(space.weight_bytes(plan) <= budget for plan in solved)
        for plan in (*by_hand, drawn, *solved, *points.neighbours(drawn)):
            _assert_held(case, plan)


@pytest.mark.parametrize("seed", range(1000, 1012))
def test_no_search_breaks_a_group(seed: int) -> None:
    """All that whole searches ask, probes of operating points and plans by level switches among them; none twice."""
    case = _case(seed)
    space, errors = case.space, case.errors()
    budget = Random(seed).randint(space.smallest_bytes, space.largest_bytes)
    prices = {name: float(d @ d) / _ENTRIES for name, d in case.directions.items()}
    known: dict[str, Any] = {"num_sequences": 8, "num_sizes": 3, "prices": prices, "seed": seed}
    found = _asked(case, FrontStrategy(space, errors, budget, **known), 120)
    found += _asked(case, CoarseStrategy(space, errors, budget, **known, max_trials=40), 40)
    for proposal in found:
        _assert_held(case, proposal.plan)
        if proposal.base is not None and proposal.plan != proposal.base:
            assert len(set(space.choices_of(proposal.plan)) - set(space.choices_of(proposal.base))) == 1


def test_a_group_is_priced_as_one() -> None:
    """A probe of it is what its modules lose together; each has its share by errors and prices known before."""
    errors = {"q": {_LOW: 0.5, _HIGH: 0.1}, "k": {_LOW: 0.2, _HIGH: 0.05}, "o": {_LOW: 0.4, _HIGH: 0.1}}
    items = {"q": ("q", "k"), "o": ("o",)}
    model = fit_probes(errors, [Probe("q", _LOW, 3.0), Probe("q", _HIGH, 0.6)], {"q": 2.0, "k": 4.0, "o": 1.0}, items)
    assert model.loss(("q", "k"), _LOW) == pytest.approx(3.0)
    assert model.losses["q"][_LOW] / model.losses["k"][_LOW] == pytest.approx(2.0 * 0.5 / (4.0 * 0.2))
    unknown = fit_probes(errors, [], items=items)
    assert all(unknown.losses[name] == pytest.approx(errors[name]) for name in errors)
    priced = fit_probes(errors, [], {"q": 2.0, "k": 4.0, "o": 1.0}, items)
    assert priced.losses["k"][_LOW] == pytest.approx(4.0 * 0.2)


def test_the_best_plan_of_groups_is_the_best() -> None:
    """Against trying every plan that keeps the groups."""
    cases = (case for case in map(_case, range(200)) if case.space.target == "fusing" and case.groups)
    case = next(case for case in cases if 100 < case.space.num_plans < 3000)
    space, errors = case.space, case.errors()
    model = AdditiveModel({n: {v: (2 + i % 3) * e for v, e in errors[n].items()} for i, n in enumerate(errors)})
    choices = [[(item, level) for level in space.levels[item]] for item in space.items]
    plans = list(map(space.plan_of, product(*choices)))
    assert len(set(plans)) == len(plans) == space.num_plans
    for size in range(space.smallest_bytes, space.largest_bytes, (space.largest_bytes - space.smallest_bytes) // 7 + 1):
        (found,) = Points(space, [], model, plans[0]).solve([size])
        best = min(model.predict(plan) for plan in plans if space.weight_bytes(plan) <= size)
        assert model.predict(found) == pytest.approx(best)


def _fusing(pins: Sequence[tuple[str, Level]] = ()) -> SearchSpace:
    names = ("embed", *(f"layers.{block}.{kind}_proj" for block in (0, 1) for kind in "qkvo"))
    modules = [
        module(names[0], 64, 64, "embedding"),
        *(module(n, 32, 64, block=int(n.split(".")[1])) for n in names[1:]),
    ]
    found = Inventory(tuple(modules), (), None, 2)
    return build_space(found, Menu((2, 4, 8), (32, 64), (0.0,), (0,), ("integer",)), "fusing", pins)


def test_a_pin_holds_for_all_of_a_group() -> None:
    """Two pins that differ are refused, and so is one that another module of the group cannot take."""
    qkv = ("layers.0.q_proj", "layers.0.k_proj", "layers.0.v_proj")
    found = _fusing([("0.k_proj", Level(3, 16))])
    assert {found.levels[name] for name in qkv} == {(Level(3, 16),)}
    assert set(found.pinned) == set(qkv)
    assert len(found.levels["layers.0.o_proj"]) > 1
    with pytest.raises(SpecError, match=r"q_proj is pinned to b4-g32, layers\.0\.k_proj is pinned to b8-g32, but"):
        _fusing([("0.q_proj", Level(4, 32)), ("0.k_proj", Level(8, 32))])


def test_levels_of_a_group_are_those_that_all_its_modules_keep() -> None:
    """All of them are built, since what is dominated in one module may be worth having for the others."""
    space = _fusing()
    assert required_levels(space, "layers.0.k_proj") == space.levels["layers.0.q_proj"]
    assert len(required_levels(space, "layers.0.o_proj")) == 3 < len(space.levels["layers.0.o_proj"])
    kept = {name: list(levels) for name, levels in space.levels.items()}
    kept["layers.1.v_proj"] = [Level(4, 64)]
    fewer = space.restricted(kept)
    assert {fewer.levels[f"layers.1.{kind}_proj"] for kind in "qkv"} == {(Level(4, 64),)}
    assert fewer.levels["layers.0.q_proj"] == space.levels["layers.0.q_proj"]


def test_a_group_is_explained_as_one() -> None:
    """Each module has its own share and bytes; the moves are those of all, and the sentence names the others."""
    space = _fusing()
    losses = {n: {v: 4.0 ** -(v.bits or 16) for v in levels} for n, levels in space.levels.items()}
    plan = space.uniform_plan(Level(4, 64))
    found = explain(space.inventory, "fusing", AdditiveModel(losses), plan, "p0", 0.6)
    reason = next(r for r in found.modules if r.module == "layers.0.k_proj")
    assert reason.why.startswith(
        "kept at b4-g64 with layers.0.q_proj and layers.0.v_proj, as the target has them at one"
    )
    assert reason.size_bytes == space.sizes["layers.0.k_proj"][Level(4, 64)]
    sizes = space.item_sizes["layers.0.q_proj"]
    assert reason.up is not None
    assert reason.up.bytes_change == sizes[parse_level(reason.up.level)] - sizes[Level(4, 64)]
    assert sum(r.kl_divergence for r in found.modules) == pytest.approx(0.6)


def test_a_plan_that_breaks_a_group_is_not_exported() -> None:
    """Nor is it one of the space, so that what earlier jobs measured for other targets is not taken for it."""
    space = _fusing()
    plan = space.uniform_plan(Level(4, 64))
    check_format(space.inventory, plan, "fusing")
    broken = plan.replace({"layers.1.v_proj": Level(8, 64)})
    assert not space.holds(broken)
    with pytest.raises(SpecError, match=r"q_proj is b4-g64 and layers\.1\.v_proj is b8-g64, but fusing has"):
        check_format(space.inventory, broken, "fusing")
