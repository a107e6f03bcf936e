"""The decision space: menu, pins and what a target can hold."""

from typing import Any

import pytest
from hypothesis import given

from space.cost import plan_bytes
from space.errors import SpecError
from space.inventory import ModuleInfo
from space.level import DENSE, Level, parse_level
from space.menu import Menu, build_space, nearest_level
from space.spec import make_spec
from space.targets.target_table import is_legal
from tests.space.values import EMBEDDING, MODULES, inventory, levels, module, space

SMALL = Menu(bits=(2, 4), group_sizes=(32, None), sparsities=(0.0, "2:4"), ranks=(0, 8), kinds=("integer",))


def test_menu_is_the_product_of_its_axes() -> None:
    """Each value of each axis with each other, once; 16 bits add one dense level."""
    assert len(SMALL.levels()) == 2 * 2 * 2 * 2
    assert Menu((4, 16), (64,), (0.0,), (0,), ("integer",)).levels() == (DENSE, Level(4, 64))
    assert Menu((4, 4), (64, 64), (0.0, 0.0), (0, 0), ("integer",)).levels() == (Level(4, 64),)


def test_other_kinds_take_one_scale_per_channel() -> None:
    """Every kind with each bit-width, sparsity and rank; group sizes are for plain integers."""
    kinds = Menu((2,), (32, 64), (0.0,), (0, 4), ("integer", "rotated", "trellis", "rotated-trellis"))
    assert list(map(str, kinds.levels())) == [
        *("b2-g32", "b2-g64", "b2-g32-r4", "b2-g64-r4", "b2-gch-h", "b2-gch-h-r4"),
        *("b2-gch-t", "b2-gch-t-r4", "b2-gch-t-h", "b2-gch-t-h-r4"),
    ]


def test_uniform_levels_are_plain_and_distinct() -> None:
    """Group 64 where the menu has it, else its first."""
    assert Menu(bits=(4, 2, 4, 16)).uniform_levels() == (Level(2, 64), Level(4, 64))
    assert SMALL.uniform_levels() == (Level(2, 32), Level(4, 32))


def test_a_pin_that_matches_nothing() -> None:
    """The message shows what names look like."""
    with pytest.raises(SpecError, match=r"'nothing' matches no module; names look like embed_tokens, layers\.0"):
        space(pins=(("nothing", Level(4, 64)),))


def test_a_pin_that_is_no_regular_expression() -> None:
    """The message says why."""
    with pytest.raises(SpecError, match="is not a regular expression: "):
        space(pins=(("(", Level(4, 64)),))


def test_a_pin_that_cannot_be_stored() -> None:
    """The message names the module, the level and the target."""
    with pytest.raises(SpecError, match=r"embed_tokens cannot be stored as b4-g64-r8 for target packed"):
        space(pins=(("", Level(4, 64, rank=8)),))
    with pytest.raises(SpecError, match=r"layers\.0\.q_proj cannot be stored as .* for target compressed-tensors"):
        build_space(inventory(), Menu(), "compressed-tensors", [("q_proj", Level(4, 64, 0.5))])


def test_the_later_pin_wins() -> None:
    """A pinned module has one level, which no uniform plan changes; it need not be on the menu."""
    wide, dense = Level(7, 16), DENSE
    found = space(SMALL, (("proj", wide), (r"layers\.1\.", dense)))
    assert found.levels[MODULES[0]] == (wide,)
    assert found.levels[MODULES[3]] == (dense,)
    assert len(found.levels[EMBEDDING]) > 1
    assert found.uniform_plan(Level(2, 32))[MODULES[0]] == wide
    assert set(found.pinned) == set(MODULES)


@pytest.mark.parametrize(
    ("shape", "kind", "text", "packed", "compressed_tensors"),
    [
        ((32, 64), "linear", "dense", True, True),
        ((32, 64), "linear", "b4-g64", True, True),
        ((32, 64), "linear", "b4-gch", True, True),
        ((32, 64), "linear", "b4-g128", False, False),
        ((32, 72), "linear", "b4-g64", True, False),
        ((32, 64), "linear", "b4-g64-s0.5", True, False),
        ((32, 64), "linear", "b4-g64-s2:4", True, False),
        ((32, 66), "linear", "b4-gch-s2:4", False, False),
        ((32, 64), "linear", "b4-g64-r31", True, False),
        ((32, 64), "linear", "b4-g64-r32", False, False),
        ((32, 64), "embedding", "b4-g64", True, False),
        ((32, 64), "embedding", "b4-g64-r8", False, False),
        ((32, 64), "embedding", "b4-g64-s0.5", False, False),
        ((32, 64), "embedding", "dense", True, True),
        ((32, 64), "linear", "b4-gch-t", True, False),
        ((32, 64), "linear", "b4-gch-h", True, False),
        ((50, 7), "embedding", "b4-gch-t-h", True, False),
        ((50, 7), "linear", "b4-g4-t-h-s.3-r6", True, False),
    ],
)
def test_what_targets_hold(
    shape: tuple[int, int],
    kind: str,
    text: str,
    packed: bool,  # noqa: FBT001
    compressed_tensors: bool,  # noqa: FBT001
) -> None:
    """Each container holds what its format can say, no more."""
    info: ModuleInfo = module("m", *shape, kind=kind)
    assert is_legal(info, parse_level(text), "packed") is packed
    assert is_legal(info, parse_level(text), "compressed-tensors") is compressed_tensors


def test_a_module_without_a_legal_level_stays_dense() -> None:
    """Embeddings of compressed-tensors are not compressed."""
    found = build_space(inventory(), SMALL, "compressed-tensors", [])
    assert found.levels[EMBEDDING] == (DENSE,)


def test_nearest_level() -> None:
    """The wanted level itself; else bits first, then plain, then the group size."""
    offered = [Level(2, 32), Level(4, 32, rank=8), Level(4, None), Level(4, 128)]
    assert nearest_level(offered, Level(2, 32)) == Level(2, 32)
    assert nearest_level(offered, Level(4, 64)) == Level(4, 128)
    assert nearest_level(offered, Level(8, None)) == Level(4, None)
    assert nearest_level([*offered, DENSE], Level(8, 64)) == Level(4, 128)
    assert nearest_level([Level(2, 64), DENSE], DENSE) == DENSE
    turned = Level(4, None, coding="trellis", rotated=True)
    assert nearest_level([Level(4, 32), turned, Level(4, None)], Level(4, 64)) == Level(4, 32)
    assert nearest_level([Level(4, 32), turned], Level(4, None, coding="trellis", rotated=True)) == turned


@given(levels)
def test_uniform_plans_are_of_the_space(level: Level) -> None:
    """Whatever level is wished, every module gets one that it may have."""
    found = space(SMALL)
    plan = found.uniform_plan(level)
    assert all(v in found.levels[name] for name, v in plan.levels)


def test_reachable_range_and_bytes() -> None:
    """Levels are sorted by bytes; the ends of the range are plans, and bytes are those of `plan_bytes`."""
    found = space(SMALL)
    ends = [found.uniform_plan(DENSE).replace({n: v[i] for n, v in found.levels.items()}) for i in (0, -1)]
    assert [found.weight_bytes(plan) for plan in ends] == [found.smallest_bytes, found.largest_bytes]
    for plan in ends:
        assert found.weight_bytes(plan) == plan_bytes(found.inventory, plan).weight_bytes
    for sizes in found.sizes.values():
        assert list(sizes.values()) == sorted(sizes.values())
    assert found.num_plans == 4 * 16**4


def test_uniform_plans_are_what_people_do_today() -> None:
    """One plan per bit-width, larger with more bits."""
    found = space(SMALL)
    sizes = [found.weight_bytes(plan) for _, plan in found.uniform_plans()]
    assert [str(level) for level, _ in found.uniform_plans()] == ["b2-g32", "b4-g32"]
    assert sizes == sorted(sizes)


def test_restricted_keeps_order_and_pins() -> None:
    """A restricted space is the same space with fewer levels."""
    found = space(SMALL, ((MODULES[0], DENSE),))
    kept = {name: levels[::-1][:2] for name, levels in found.levels.items()}
    fewer = found.restricted(kept)
    assert fewer.levels[MODULES[1]] == found.levels[MODULES[1]][-2:]
    assert (fewer.levels[MODULES[0]], fewer.pinned) == ((DENSE,), found.pinned)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"bits": ()}, "bits"),
        ({"bits": (1,)}, "bits"),
        ({"bits": (16,)}, "bits"),
        ({"group_sizes": (0,)}, "group_size"),
        ({"sparsities": (1.5,)}, "sparsity"),
        ({"ranks": (-1,)}, "rank"),
        ({"kinds": ()}, "--kind"),
        ({"kinds": ("spun",)}, "--kind spun"),
        ({"pins": (("a", "b99"),)}, "bits=99"),
        ({"sampler": "best"}, "sampler"),
        ({"target": "tflite"}, "target"),
        ({"max_trials": 0}, "--max-trials 0"),
        ({"max_minutes": 0}, "--max-minutes 0"),
        ({"workers": 0}, "workers"),
        ({"context": -1}, "context"),
        ({"frobnicate": 1}, "frobnicate"),
    ],
)
def test_requests_that_make_no_sense(values: dict[str, object], field: str) -> None:
    """The message names the option, and what was given."""
    with pytest.raises(SpecError, match=field):
        make_spec(model="m", budget="60%", **values)


def test_requests_have_digests() -> None:
    """Equal requests have one digest; compressed-tensors has plain integers only."""
    one, other = make_spec(model="m", budget="60%"), make_spec(model="m", budget="60%", seed=1)
    assert one.digest == make_spec(model="m", budget="60%").digest != other.digest
    plain = make_spec(model="m", budget="60%", target="compressed-tensors").menu.levels()
    assert all(level.is_plain and level.is_integer for level in plain)
    wanted = [f"b{bits}-g{size}" for bits in (2, 3, 4, 5, 6, 8) for size in (32, 64, 128, "ch")]
    assert list(map(str, plain)) == ["dense", *wanted]


def test_uniform_levels_of_a_menu_of_kinds_that_stand_alone() -> None:
    """They are of that kind; where integers stand beside them, of integers, as far as these have the bit-width."""
    menu = Menu(bits=(3, 1), kinds=("exl3",))
    assert menu.uniform_levels() == (Level(1, coding="exl3"), Level(3, coding="exl3"))
    assert Menu(bits=(3, 1), kinds=("integer", "exl3")).uniform_levels() == (Level(3, 64),)


@pytest.mark.parametrize(
    ("hardware", "held"),
    [
        ("cpu", {"b4-g64", "b8-g64-a8"}),
        ("turing", {"b2-g64", "b4-g64", "b8-g64", "b8-g64-a8"}),
        ("ampere", {"b2-g64", "b4-g64", "b8-g64", "b8-g64-a8", "nvfp4", "mxfp4"}),
        ("hopper", {"b2-g64", "b4-g64", "b8-g64", "b8-g64-a8", "b8-gch-f-af8", "nvfp4", "mxfp4"}),
        (None, {"b2-g64", "b4-g64", "b8-g64", "b8-g64-a8", "b8-gch-f-af8", "nvfp4", "nvfp4-a4", "mxfp4"}),
    ],
)
def test_levels_without_a_kernel_are_left_out(hardware: str | None, held: set[str]) -> None:
    """Of the menu and of uniform plans; dense weights run everywhere."""
    kinds = ("integer", "integer-a8", "float8-af8", "nvfp4", "nvfp4-a4", "mxfp4")
    values = {"bits": (2, 4, 8, 16), "group_sizes": (64,), "sparsities": (0.0,), "ranks": (0,), "kinds": kinds}
    spec = make_spec(model="m", budget="60%", target="vllm", gpu_generation=hardware, **values)
    assert {str(level) for level in spec.menu.levels()} == held | {"dense"}
    assert {str(level) for level in spec.menu.uniform_levels()} == {text for text in held if text.endswith("-g64")}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"target": "vllm", "gpu_generation": "hopper", "kinds": ("nvfp4-a4",), "bits": (4, 16)},
            "no kernel for --kind nvfp4-a4 at --bits 4,16 on hopper; name others, or leave --gpu-generation out",
        ),
        ({"target": "vllm", "gpu_generation": "volta"}, "not known to --target vllm; there are cpu, turing"),
        ({"gpu_generation": "ada"}, "holds runs on all hardware; leave it out, or use --target vllm"),
        (
            {"target": "vllm", "gpu_generation": "ampere", "pins": (("q_proj", "b8-gch-f-af8"),)},
            "b8-gch-f-af8: vllm has no kernel for it on ampere",
        ),
        (
            {"target": "vllm", "gpu_generation": "cpu", "plans": (("theirs", (("q_proj", "b3-g64"),)),)},
            "b3-g64: vllm has no kernel for it on cpu",
        ),
        (
            {"target": "vllm", "gpu_generation": "cpu", "bits": (2, 3), "kinds": ("integer",)},
            "no kernel for --kind integer at --bits 2,3 on cpu; name others",
        ),
    ],
)
def test_hardware_that_lacks_what_is_asked_for_is_refused(values: dict[str, Any], told: str) -> None:
    """Before a job exists."""
    with pytest.raises(SpecError, match=told):
        make_spec(model="m", budget="60%", **values)
