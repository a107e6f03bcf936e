"""The benchmark of levels: what it calls errors and bytes is what they are."""

import json
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from benchmarks.levels.candidates import CANDIDATES
from benchmarks.levels.matrices import Matrix
from benchmarks.levels.recovery import PAGE, tables
from benchmarks.levels.recovery import RESULT as RECOVERED
from benchmarks.levels.recovery import plans as plans_to_recover
from benchmarks.levels.refit import plans
from benchmarks.levels.run import BASE, measure, summarise
from benchmarks.levels.speed import in_turn
from space.targets.target_table import is_legal
from tests.workers.weights import correlated_hessian, output_error, random_weight
from workers.families.read_inventory import inspect_model
from workers.models.model_files import resolve_model

if TYPE_CHECKING:
    from benchmarks.search.arena import Arena


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_are_quantized_well(name: str) -> None:
    """Each candidate is a rounding of the weight by error feedback, whose error falls with its bits."""
    weight, hessian = random_weight(32, 64), correlated_hessian(64)
    built = [CANDIDATES[name](weight, hessian, bits) for bits in (2, 3, 4)]
    errors = [output_error(weight, found, hessian) for found, _ in built]
    sizes = [size for _, size in built]
    assert errors[0] < 0.5
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    assert all(weight.numel() * bits / 8 < size for bits, size in zip((2, 3, 4), sizes, strict=True))


def test_ratios_are_to_group_64() -> None:
    """The base has ratio one at every bit-width, and errors are those of the definition."""
    matrix = Matrix("m", random_weight(32, 128), correlated_hessian(128), correlated_hessian(128, seed=2))
    rows = measure(matrix)
    found = summarise([rows])
    assert [row["ratio"] for row in found if row["kind"] == BASE] == [1.0, 1.0, 1.0]
    trellis = next(row for row in found if row["kind"] == "trellis, rotated" and row["bits"] == 2)
    assert trellis["stored_bits"] == pytest.approx(2 + 16 / 128)
    assert trellis["ratio"] < 0.9
    assert trellis["held_out"] != trellis["error"]


def test_plans_to_refit_are_around_the_searched_allocation() -> None:
    """Twenty different plans, four at each of five budgets, every one of levels that the container holds."""
    arena = SimpleNamespace(inventory=inspect_model(resolve_model("bundled", None)))
    found = plans(cast("Arena", arena))
    assert sorted({budget for budget, _, _ in found}) == [2.25, 2.5, 3.0, 3.5, 4.0]
    assert len({plan.digest for _, _, plan in found}) == 20
    for _, kind, plan in found:
        for module in arena.inventory.modules:
            assert is_legal(module, plan[module.name], "packed"), (kind, module.name)
    by_kind = {kind: plan for budget, kind, plan in found if budget == 2.5}
    bits = {kind: [level.bits for _, level in plan.levels] for kind, plan in by_kind.items()}
    assert bits["searched"] == bits["trellis"] == bits["mixed"] != bits["moved"]
    assert len({str(level)[2:] for _, level in by_kind["mixed"].levels}) > 5


def test_speeds_are_of_pairs() -> None:
    """Everything runs once in each turn, and the first turn does not count."""
    ran: list[str] = []
    seconds = in_turn({name: partial(ran.append, name) for name in "ab"})
    assert ran[:4] == ["a", "b", "a", "b"]
    assert [len(own) + 1 for own in seconds.values()] == [ran.count("a"), ran.count("b")]


def test_plans_to_recover_are_trellises_integers_and_pruned_ones() -> None:
    """Three budgets of two kinds, and two pruned plans beside the same levels without zeros; a row is a line."""
    arena = SimpleNamespace(inventory=inspect_model(resolve_model("bundled", None)))
    found = list(plans_to_recover(cast("Arena", arena), ("trellis", "searched", "pruned", "half")))
    assert len({name for name, _, _ in found}) == len({plan.digest for _, _, plan in found}) == 9
    for name, _, plan in found:
        for module in arena.inventory.modules:
            assert is_legal(module, plan[module.name], "packed"), (name, module.name)
    row = {"name": "p", "method": "scales", "seed": 1, "judged": [0.2, 0.1], "judged_ratio": 0.5, "kept": True}
    told = tables([{**row, "cpu_seconds": 90, "curve": [[0, 0.0, 0.2, 0.2], [8, 60.0, 0.1, 0.1]]}])
    assert "| p | scales | 1 | 0.20000 | 0.10000 | 0.500 | yes | 1.5 |" in told
    assert "| p | scales | 1 | 0.0: 0.2000, 1.0: 0.1000 |" in told


def test_the_page_of_recoveries_has_the_committed_rows() -> None:
    """Runs with files of their own do not change it."""
    assert tables(json.loads(RECOVERED.read_text(encoding="utf-8"))) in PAGE.read_text(encoding="utf-8")
