"""The axes league's bookkeeping; its searches are those of tightfit, tested elsewhere."""

from pathlib import Path

import pytest

from benchmarks.search.arena import BUDGET_BITS, Arena
from benchmarks.search.axes import BITS_ONLY, MENUS, asked_units, summarize
from benchmarks.search.axes_report import axes_markdown
from benchmarks.search.units import State
from space.level import Level
from space.menu import build_space
from workers.families.read_inventory import inspect_model
from workers.models.model_files import resolve_model


def test_units() -> None:
    """One for each menu and seed; an unknown menu is named."""
    units = asked_units("bits,all", "0,1")
    assert [u.name for u in units] == ["bits-s0", "all-s0", "bits-s1", "all-s1"]
    with pytest.raises(SystemExit, match="no such menu: wrong; there are bits"):
        asked_units("bits,wrong", "0")


def test_menus_grow() -> None:
    """Bits only is in every menu, and every menu in the one of all axes: more axes can only be worth more."""
    levels = {name: set(menu.levels()) for name, menu in MENUS.items()}
    assert all(levels[BITS_ONLY] <= found <= levels["all+trellis"] for found in levels.values())


def test_summary(tmp_path: Path) -> None:
    """KL, what the plans use and paired intervals, of what was run and judged; the rest is left out."""
    arena, state = Arena(tmp_path / "arena"), State(tmp_path / "state")
    inventory = inspect_model(resolve_model("bundled", None))
    plans = {name: build_space(inventory, MENUS["all"], "packed", ()).uniform_plan(v) for name, v in _LEVELS.items()}
    for unit in asked_units("bits,groups,all", "0"):
        if unit.method == "all":
            continue
        result = {"token_forwards": 1e6, "seconds": 3.0}
        state.write(unit, {**result, "plans": {str(b): plans[unit.method].to_json() for b in BUDGET_BITS}})
    state.write_judged(plans["bits"], [0.2, 0.21, 0.19, 0.2] * 6)
    state.write_judged(plans["groups"], [0.1, 0.12, 0.1, 0.1] * 6)
    found = summarize(asked_units("bits,groups,all", "0"), state, arena)
    assert list(found["menus"]) == ["bits", "groups"]
    assert found["menus"]["groups"]["kl"]["3.0"] == {"0": 0.105}
    assert found["menus"]["bits"]["uses"]["3.0"]["another group size"] == 0.0
    assert found["menus"]["groups"]["uses"]["3.0"] == {
        "another group size": 1.0,
        "sparsity": 0.0,
        "rank": 0.0,
        "trellis": 0.0,
    }
    low, high = found["against_bits"]["groups"]["3.0"]
    assert low < high < 0
    told = axes_markdown(found)
    assert "| groups | 0.105 (0.52▼) |" in told
    assert "| 0.525 |" in told
    assert "| groups | 100 to 100 % | none | none | none | 1.00 M | 3 |" in told


_LEVELS = {"bits": Level(3, 64), "groups": Level(3, 32)}
