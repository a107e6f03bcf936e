"""The league's peers: moves keep bytes, archives choose what fits, replays complete a tool's plan."""

from itertools import pairwise

import numpy as np
import pytest

from benchmarks.search.arena import PLAIN_MENU
from benchmarks.search.peers import evopress, heuristic, random32
from benchmarks.search.peers.common import Archive, ceiling_plan, floor_plan, lower_to_fit, solve_knapsack
from benchmarks.search.peers.outside import choose
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.menu import SearchSpace, build_space

SHAPES = {"q": (64, 64), "k": (32, 64), "v": (32, 64), "o": (64, 64)}


@pytest.fixture
def space() -> SearchSpace:
    """Give six blocks of four modules and a tied embedding."""
    modules = [ModuleInfo("embed", "embedding", TensorInfo("embed.weight", (256, 64), "BF16"), None, ("head",))]
    for block in range(6):
        for kind, shape in SHAPES.items():
            name = f"blocks.{block}.{kind}"
            modules.append(ModuleInfo(name, "linear", TensorInfo(f"{name}.weight", shape, "BF16"), block))
    return build_space(Inventory(tuple(modules), (), None, 6), PLAIN_MENU, "packed", ())


def middle_bytes(space: SearchSpace, bits: int) -> int:
    """Return a size halfway between two uniform plans."""
    sizes = [space.weight_bytes(space.uniform_plan(Level(b, 64))) for b in (bits, bits + 1)]
    return sum(sizes) // 2


def test_switches_between_modules_of_one_size_keep_the_bytes(space: SearchSpace) -> None:
    """EvoPress meets its budget by construction, and its children differ from their parent."""
    parent = space.uniform_plan(Level(3, 64))
    mutation = evopress.Mutation.of(evopress.ladder(space), space.weight_bytes(parent), "size")
    children = evopress.children(mutation, parent, np.random.default_rng(0))
    assert {space.weight_bytes(child) for child in children} == {space.weight_bytes(parent)}
    assert len({child.digest for child in children} - {parent.digest}) == evopress.OFFSPRING
    assert all(child["embed"] == parent["embed"] for child in children)


def test_trades_between_any_modules_stay_within_the_bytes(space: SearchSpace) -> None:
    """The other group rule also moves the embedding, and never exceeds the budget."""
    parent = space.uniform_plan(Level(3, 64))
    mutation = evopress.Mutation.of(evopress.ladder(space), space.weight_bytes(parent), "any")
    rng = np.random.default_rng(0)
    children = [child for _ in range(10) for child in evopress.children(mutation, parent, rng)]
    assert max(space.weight_bytes(child) for child in children) <= space.weight_bytes(parent)
    assert any(child["embed"] != parent["embed"] for child in children)


def test_ladder_holds_levels_of_equal_steps(space: SearchSpace) -> None:
    """From 6 to 8 bits is a longer step; a switch over it would not keep bytes."""
    for name, levels in evopress.ladder(space).levels.items():
        assert [level.bits for level in levels] == [2, 3, 4, 5, 6]
        steps = {space.sizes[name][b] - space.sizes[name][a] for a, b in pairwise(levels)}
        assert len(steps) == 1


def test_random_mixes_fill_the_bytes(space: SearchSpace) -> None:
    """No module of the smallest step fits beside a random mix, and mixes differ."""
    size, rng = middle_bytes(space, 2), np.random.default_rng(1)
    plans = [random32.random_mix(space, size, rng) for _ in range(8)]
    assert len({plan.digest for plan in plans}) == len(plans)
    assert all(0.95 * size < space.weight_bytes(plan) <= size for plan in plans)


def test_lowering_ends_at_the_smallest_plan(space: SearchSpace) -> None:
    """An impossible size gives the smallest plan instead of a search without end."""
    plan = lower_to_fit(space, ceiling_plan(space, 10**9), 0, np.random.default_rng(0))
    assert space.weight_bytes(plan) == space.smallest_bytes


def test_archive_gives_the_best_that_fits(space: SearchSpace) -> None:
    """A better plan above the size is left, a worse one within it too; where none fits, the uniform floor stands in."""
    archive = Archive(space)
    plans = {level.bits: plan for level, plan in space.uniform_plans()}
    for bits, kl in ((3, 0.3), (4, 0.4), (5, 0.1)):
        archive.add(plans[bits], kl)
    assert archive.best_within(space.weight_bytes(plans[4])) == plans[3]
    assert archive.best_within(space.weight_bytes(plans[2])) == floor_plan(space, space.weight_bytes(plans[2]))


@pytest.mark.parametrize(("ends", "embedding"), heuristic.VARIANTS)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_heuristic_fits_and_favours_the_ends(space: SearchSpace, ends: int, bits: int, *, embedding: bool) -> None:
    """No module of the middle gets more than a favoured one."""
    size = middle_bytes(space, bits)
    plan = heuristic.variant(space, size, floor_plan(space, size), ends, embedding=embedding)
    favoured, rest = heuristic.priority(space, ends, embedding=embedding)
    assert space.weight_bytes(plan) <= size
    assert max(plan[n].bits or 16 for n in favoured) >= max(plan[n].bits or 16 for n in rest)


def test_knapsack_plans_fit(space: SearchSpace) -> None:
    """Scores become plans within the weight bytes, tensors left alone included; noise below zero counts as zero."""
    losses = {n: {v: 4.0 ** -(v.bits or 16) - 0.001 for v in levels} for n, levels in space.levels.items()}
    budgets = {2.5: middle_bytes(space, 2), 3.5: middle_bytes(space, 3)}
    for bits, plan in solve_knapsack(space, losses, budgets).items():
        assert space.weight_bytes(plan) <= budgets[bits]


def test_replayed_plans_take_the_embedding_nearest_to_the_budget(space: SearchSpace) -> None:
    """With 3 bits for the embedding only the smaller of two plans fits a 3-bit size; 2.9 decides for it."""
    names = [name for name in space.levels if name != "embed"]
    rows = [{"target_bits": t, "levels": dict.fromkeys(names, b)} for t, b in ((2.0, 2), (3.0, 3), (4.0, 4))]
    size = space.weight_bytes(space.uniform_plan(Level(3, 64)))
    assert choose(space, rows, 3.0, size) == space.uniform_plan(Level(3, 64))
    smaller = choose(space, rows, 3.0, size - 1)
    assert smaller["embed"] == Level(3, 64)
    assert smaller["blocks.0.q"] == Level(2, 64)
