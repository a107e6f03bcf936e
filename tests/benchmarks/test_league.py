"""The league's bookkeeping: units in order, whole results only, and a report from its document."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.search.arena import BUDGET_BITS, Arena
from benchmarks.search.earlier import Earlier, decode, encode
from benchmarks.search.methods import METHODS
from benchmarks.search.ranking import best_peers, ranked
from benchmarks.search.report import digest_table, markdown
from benchmarks.search.summary import anytime, summarize
from benchmarks.search.tables import between_markers, write_document
from benchmarks.search.units import State, Unit, judge, units_of
from space.plan import Plan

PLAN = Plan.from_json({"a": "b2-g64", "b": "b4-g64"})
UNIT = Unit("uniform", 0, (2.25, 3.0), 0)


def document() -> dict[str, Any]:
    """Return a small league: two peers, ours, and one that could not run."""

    def method(kl: float, *, peer: bool = True) -> dict[str, Any]:
        row = {"is_peer": peer, "per_budget": False, "seeds": [0, 1], "token_forwards": [1e6, 2e6], "seconds": [3, 4]}
        return row | {"kl": {"3.0": {"0": kl, "1": kl * 1.2}}}

    methods = {"uniform": method(0.2), "higgs": method(0.1), "tightfit": method(0.09, peer=False)}
    against = {
        "uniform": {"best_peer": [0.08, 0.12]},
        "higgs": {"uniform": [-0.12, -0.08]},
        "tightfit": {"best_peer": [-0.02, 0.001], "uniform": [-0.13, -0.11]},
    }
    return {
        "machine": {"cpus": 2, "processor": "x86_64", "python": "3.11"},
        "budgets": {"3.0": 1000},
        "methods": methods | {"modelopt-kl": {"not_run": "no plans"}},
        "intervals": {"3.0": {"best_peer": "higgs", "against": against}},
    }


def test_cheap_methods_of_all_seeds_come_first() -> None:
    """Every unit is there once, turns in order, and the long setting last."""
    units = units_of(METHODS, [0, 1, 2])
    assert len({unit.name for unit in units}) == len(units)
    assert [unit.turn for unit in units] == sorted(unit.turn for unit in units)
    assert {unit.method for unit in units} == set(METHODS)
    assert units[-1].method == "evopress-full"


def test_unit_is_finished_when_its_plans_are_judged(tmp_path: Path) -> None:
    """A damaged file counts as absent, and a run without judgement is not finished."""
    state = State(tmp_path)
    assert not state.is_finished(UNIT)
    state.write(UNIT, {"plans": {"3.0": PLAN.to_json()}})
    assert not state.is_finished(UNIT)
    state.write_judged(PLAN, [0.1, 0.2])
    assert state.is_finished(UNIT)
    assert state.judged(PLAN) == [0.1, 0.2]
    (tmp_path / "units" / f"{UNIT.name}.json").write_text('{"plans": {')
    assert not state.is_finished(UNIT)


def test_unit_that_could_not_run_is_tried_again(tmp_path: Path) -> None:
    """Its plans may have come in the meantime."""
    state = State(tmp_path)
    state.write(UNIT, {"not_run": "no plans"})
    assert not state.is_finished(UNIT)


def test_plans_survive_their_short_form() -> None:
    """One character per module."""
    levels = ["b2-g64", "b3-g64", "b4-g64"]
    assert encode(PLAN, levels) == "02"
    assert decode("02", ["a", "b"], levels) == PLAN


def arena() -> Arena:
    """Return what summaries ask of an arena: two modules with two levels each, and a judge."""
    levels = tuple(level for _, level in PLAN.levels)
    space = SimpleNamespace(
        levels={"a": levels, "b": levels},
        uniform_plans=lambda: [(level, Plan.from_json(dict.fromkeys("ab", str(level)))) for level in levels],
        weight_bytes=lambda plan: sum(100 * (level.bits or 16) for _, level in plan.levels),
    )
    judged = SimpleNamespace(sequence_kl=(0.1, 0.3))
    return cast("Arena", SimpleNamespace(space=space, budgets=dict.fromkeys(BUDGET_BITS, 600), judge=lambda _: judged))


def found_by(method: str, seed: int) -> dict[str, Any]:
    """Return a unit's result: the same plan at all budgets."""
    plans = {str(bits): PLAN.to_json() for bits in BUDGET_BITS}
    trace = [[5e5, 600, 0.2]]
    return {"method": method, "seed": seed, "plans": plans, "token_forwards": 1e6, "seconds": 3.0, "trace": trace}


def test_league_goes_on_from_its_document(tmp_path: Path) -> None:
    """Without the state folder earlier runs stand, their plans are judged again, and only other units are missing."""
    first, second = Unit("higgs", 0, BUDGET_BITS, 0), Unit("higgs", 1, BUDGET_BITS, 0)
    state, path = State(tmp_path / "old"), tmp_path / "league.json"
    for plan in (PLAN, *(plan for _, plan in arena().space.uniform_plans())):
        state.write_judged(plan, (0.1, 0.2))
    state.write(first, found_by("higgs", 0))
    document = summarize([first], state, arena(), Earlier({}))
    write_document(path, document, "methods")

    earlier, state = Earlier.read(path, arena()), State(tmp_path / "new")
    assert earlier.has(first)
    assert not earlier.has(second)
    assert set(earlier.plans(first).values()) == {PLAN}
    assert earlier.plans(second) == {}
    assert earlier.ratios(first, state) == {}
    judge(PLAN, state, arena())
    assert earlier.ratios(first, state) == {f"higgs-s0-b{bits}": pytest.approx(0.2 / 0.15) for bits in BUDGET_BITS}
    state.write(second, found_by("higgs", 1))
    row = summarize([first, second], state, arena(), earlier)["methods"]["higgs"]
    before = document["methods"]["higgs"]
    assert row["kl"]["3.0"] == {"0": 0.2, "1": 0.2}
    assert row["plans"]["3.0"] == {"0": before["plans"]["3.0"]["0"], "1": before["plans"]["3.0"]["0"]}
    assert row["token_forwards"] == [1_000_000, 1_000_000]
    assert row["anytime"]["0"] == [list(pair) for pair in before["anytime"]["0"]]


def test_documents_of_other_models_are_refused(tmp_path: Path) -> None:
    """Their plans mean nothing here; nor do files that are no document."""
    path = tmp_path / "league.json"
    path.write_text(json.dumps({"modules": ["a"], "budgets": {}}))
    with pytest.raises(SystemExit, match="another model or other budgets"):
        Earlier.read(path, arena())
    path.write_text("[]")
    with pytest.raises(SystemExit, match="no document"):
        Earlier.read(path, arena())


def test_anytime_takes_single_budgets_side_by_side() -> None:
    """Two runs of one million each: what both knew at half of their time was known at one million in all."""
    box = {"smallest_bytes": 0, "reference_bytes": 100, "reference_kl": 1.0, "budget_bytes": [25, 60]}
    rows = [
        {"token_forwards": 1e6, "trace": [[5e5, 50, 0.1], [6e5, 50, 0.2], [7e5, 70, 0.01]]},
        {"token_forwards": 1e6, "trace": [[1e6, 20, 0.5]]},
    ]
    curve = anytime(rows, box)
    assert [spent for spent, _ in curve] == [1e6, 2e6]
    assert curve[0][1] < curve[1][1]


def test_report_compares_with_the_best_peer_only() -> None:
    """Ours is first in the table, but ratios are against the best peer; what was not run is named."""
    found = document()
    assert best_peers(found) == {"3.0": pytest.approx(0.11)}
    assert ranked(found, best_peers(found)) == ["tightfit", "higgs", "uniform"]
    text = markdown(found)
    assert "| tightfit | 0.099 (0.90) | 0.900 |" in text
    assert "| uniform | 0.22 (2.00▲) | 2.000 |" in text
    assert "| 3.0 | higgs | 0.900 [0.818, 1.009] | 0.450 [0.409, 0.500] |" in text
    assert "modelopt-kl: not run (no plans)" in text


def test_the_digest_compares_with_ours() -> None:
    """What has no plan for some budget is left out, for its mean would be of other budgets."""
    found = document()
    found["budgets"]["2.0"] = 500
    for kl, name in ((0.4, "uniform"), (0.2, "tightfit")):
        found["methods"][name]["kl"]["2.0"] = {"0": kl}
    text = digest_table(found)
    assert "| tightfit | 1.00 | 1.5 M |" in text
    assert "| uniform | 2.11 | 1.5 M |" in text  # the root of 0.22 / 0.099 times 0.4 / 0.2
    assert "higgs" not in text


def test_report_keeps_the_prose_around_its_markers() -> None:
    """Only what stands between the markers changes."""
    begin, end = "<!-- some: begin -->", "<!-- some: end -->"
    text = between_markers(f"before\n{begin}\nold\n{end}\nafter\n", "new", "some")
    assert text == f"before\n{begin}\n\nnew\n\n{end}\nafter\n"
    with pytest.raises(ValueError, match="has no"):
        between_markers("nothing", "new", "some")
