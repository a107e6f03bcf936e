"""Versions per builder: what changed is built and measured again, the rest stays known, and so does all of before."""

from pathlib import Path

import pytest

from search.measure.answer_keys import evaluation_digest
from search.measure.known_answers import KnownAnswers, Question
from search.measure.sketches import SketchBook
from space.level import DENSE, parse_level
from space.measurement import Measurement
from space.plan import Plan
from storage.in_memory import MemoryStore
from workers.compress import versions
from workers.levels.level_store import LevelStore
from workers.tasks import BuildLevels, LevelRecord
from workers.text.tokens import TokenSet

TOKENS = TokenSet("/tokens", "", ("a", "b", "c"))
INTEGER, TRELLIS, SPARSE = (parse_level(text) for text in ("b4-g64", "b2-gch-t-h", "b3-gch-s2:4-r16"))
NAME = "layers.0.up"
TASK = BuildLevels(TOKENS, NAME, ((INTEGER, 100), (TRELLIS, 50), (DENSE, 400)), (INTEGER,))

MEASURED = Measurement.of_sequences([0.1] * 4, [2.0] * 4, 31, 128.0, 0.0)


def _store(folder: Path) -> LevelStore:
    return LevelStore(folder, "m" * 64, "c" * 64)


@pytest.fixture(autouse=True)
def _as_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for table in (versions.BUILDERS, versions.SLOTS):
        for part in table:
            monkeypatch.setitem(table, part, 1)


def test_keys_of_before_are_for_ever(tmp_path: Path) -> None:
    """Taken from the program that had one version for all; one that changes loses caches and databases."""
    found = [_store(tmp_path).path(NAME, level).stem for level in (INTEGER, TRELLIS, SPARSE)]
    assert found == [
        "bc23112e451a2b8e4eabd8ec49d18134918dd042bb7bd6ebb59577f3b1338351",
        "bcd1c55792a66a7893ebaa33109ef49fe05e92c87dcdad18cf0558059d89c7fe",
        "a8e31dfac494e81eaf14b5b7e8c56beea85ee9bfa5459f55a030c1820640bec8",
    ]
    _store(tmp_path).write_records(TASK, (LevelRecord(DENSE, 400, 0.0),))
    records = "491a7821837b5f8bd6aafcf9af3f24208ae5225eba95ed28d6f31344f12ed7ce"
    assert (tmp_path / records[:2] / f"{records}.json").exists()
    assert [evaluation_digest("m" * 64, TOKENS, *part) for part in (("search", None), ("held_out", 8))] == [
        "c2693a68a95ec1e2df0ede0fdd843d625b9593f7c00f9e296ba929300da20177",
        "862c0899a6204b0968f241b17ae03b3a752f9db0a0f319b5b5f06bad1f2ba786",
    ]


@pytest.mark.parametrize(
    ("table", "part", "changed"),
    [
        ("BUILDERS", "integer", {INTEGER, SPARSE}),
        ("BUILDERS", "trellis", {TRELLIS}),
        ("SLOTS", "transform", {TRELLIS}),
        ("SLOTS", "mask", {SPARSE}),
        ("SLOTS", "correction", {SPARSE}),
    ],
)
def test_a_changed_part_changes_its_levels_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: str, part: str, changed: set[object]
) -> None:
    """By the names of their files."""
    store, levels = _store(tmp_path), (INTEGER, TRELLIS, SPARSE)
    before = {level: store.path(NAME, level) for level in levels}
    monkeypatch.setitem(getattr(versions, table), part, 7)
    assert {level for level in levels if store.path(NAME, level) != before[level]} == changed


def test_only_plans_with_a_changed_builder_are_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever builder changes next, also after a plan was measured with the change before."""
    store = MemoryStore()
    plans = [Plan.of({"a": one, "b": two}) for one, two in ((INTEGER, DENSE), (TRELLIS, DENSE), (INTEGER, TRELLIS))]

    def known() -> list[bool]:
        known_answers = KnownAnswers(store, "m" * 64, TOKENS, {"search": 4}, SketchBook(tmp_path))
        questions = [Question(plan, "search") for plan in plans]
        found = [measurement is not None for measurement in known_answers.find(questions)]
        assert [plan.digest in known_answers.whole("search") for plan in plans] == found
        for question, is_known in zip(questions, found, strict=True):
            if not is_known:
                store.put_measurement(known_answers.known(question, MEASURED))
        return found

    assert (known(), known()) == ([False] * 3, [True] * 3)
    monkeypatch.setitem(versions.BUILDERS, "integer", 2)
    assert (known(), known()) == ([False, True, False], [True] * 3)
    monkeypatch.setitem(versions.BUILDERS, "trellis", 3)
    assert (known(), known()) == ([True, False, False], [True] * 3)
    monkeypatch.setitem(versions.BUILDERS, "integer", 4)
    assert (known(), known()) == ([False, True, False], [True] * 3)
