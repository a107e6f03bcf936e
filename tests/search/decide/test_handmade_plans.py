"""The plans that people make by hand."""

from search.decide.handmade_plans import heuristic_plans
from space.level import Level
from space.menu import Menu, build_space
from tests.search.scripted import prepared, spec
from tests.space.values import EMBEDDING, space
from tests.storage.sample_job import sample_inventory

SPACE = prepared(spec()).space


def test_first_and_last_blocks_one_up() -> None:
    """For each bit-width that has one above it: with the blocks alone, and with the embedding too."""
    plans = dict(heuristic_plans(SPACE))
    assert list(plans)[:2] == [
        "b2-g64 with first and last blocks at b3-g64",
        "b3-g64 with first and last blocks at b4-g64",
    ]
    four = space(Menu(bits=(3, 4, 8), sparsities=(0.0,), ranks=(0,)))
    blocks = dict(heuristic_plans(four))["b3-g64 with first and last blocks at b4-g64"]
    assert {str(v) for n, v in blocks.levels if n != EMBEDDING} == {"b4-g64"}
    assert blocks[EMBEDDING] == Level(3, 64)


def test_no_plan_is_there_twice() -> None:
    """None equals another or a uniform one; in a model of two blocks all of them with the ends is the next uniform."""
    plans = [plan.digest for _, plan in heuristic_plans(SPACE)]
    uniform = [plan.digest for _, plan in SPACE.uniform_plans()]
    assert len({*plans, *uniform}) == len(plans) + len(uniform)
    assert not any("the ends" in name for name, _ in heuristic_plans(SPACE))


def test_blocks_between_stay() -> None:
    """In a deeper model only the first and the last block are lifted."""
    deep = build_space(sample_inventory(), Menu(bits=(2, 4)), "packed", [("v_proj", Level(8, 64))])
    plans = dict(heuristic_plans(deep))
    assert list(plans) == [
        "b2-g64 with first and last blocks at b4-g64",
        "b2-g64 with first and last blocks and the ends at b4-g64",
    ]
    for name, plan in plans.items():
        for module in deep.inventory.modules:
            bits = 8 if module.module_type == "v_proj" else 4 if module.block in (0, 7) else 2
            if module.block is None and "ends" in name:
                bits = 4
            assert plan[module.name].bits == bits


def test_one_bit_width_has_nothing_above() -> None:
    """A menu of one bit-width has no such plans."""
    assert heuristic_plans(space(Menu(bits=(4,)))) == []
