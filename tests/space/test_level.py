"""Levels: the text form loses nothing, and what cannot be stored cannot be written."""

import pytest
from hypothesis import given

from space.errors import SpecError
from space.level import DENSE, Level, parse_level
from tests.space.values import levels


@given(levels)
def test_text_round_trip(level: Level) -> None:
    """Every legal level is read back from its own text."""
    assert parse_level(str(level)) == level


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("dense", DENSE),
        ("16", DENSE),
        (" b3 ", Level(3, 64)),
        ("b4-gch", Level(4, None)),
        ("b4-s.5", Level(4, 64, 0.5)),
        ("b3-g32-s2:4-r16", Level(3, 32, 0.5, "2:4", 16)),
        ("b2-t-h", Level(2, 64, coding="trellis", rotated=True)),
        ("b3-gch-h-s.5", Level(3, None, 0.5, rotated=True)),
        ("b8-gch-a8", Level(8, None, inputs="int8")),
        ("b8-s2:4-r2-a8", Level(8, 64, 0.5, "2:4", 2, inputs="int8")),
    ],
)
def test_short_forms(text: str, level: Level) -> None:
    """Users may leave out the group size and the leading zero."""
    assert parse_level(text) == level


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (Level(4, 64), "b4-g64"),
        (Level(3, None, 0.5, "2:4", 16), "b3-gch-s2:4-r16"),
        (Level(2, 32, 0.25), "b2-g32-s0.25"),
        (Level(2, None, coding="trellis", rotated=True), "b2-gch-t-h"),
        (Level(8, 64, 0.5, rank=4, rotated=True), "b8-g64-h-s0.5-r4"),
        (Level(8, None, rank=4, inputs="int8"), "b8-gch-r4-a8"),
    ],
)
def test_texts_are_for_ever(level: Level, text: str) -> None:
    """Files are named by these texts: one that changes loses every level built before."""
    assert str(level) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "4",
        "b",
        "b1",
        "b9",
        "b16",
        "B4",
        "b4g64",
        "b4-g0",
        "b4-s1.5",
        "b4-s0.12345",
        "b4-s1:4",
        "b4-r-1",
        "b4-r8-g64",
        "b4-h-t",
        "b4-s.5-t",
    ],
)
def test_what_is_not_a_level(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(SpecError):
        parse_level(text)


@pytest.mark.parametrize(
    "values",
    [
        {"bits": None, "group_size": 64},
        {"bits": None, "rank": 8},
        {"bits": None, "pattern": "2:4"},
        {"bits": None, "coding": "trellis"},
        {"bits": None, "rotated": True},
        {"bits": 4, "sparsity": 1.0},
        {"bits": 4, "sparsity": -0.1},
        {"bits": 4, "sparsity": float("nan")},
        {"bits": 4, "pattern": "2:4"},
        {"bits": 4, "pattern": "2:4", "sparsity": 0.25},
        {"bits": 4, "rank": -1},
        {"bits": None, "inputs": "int8"},
        {"bits": 4, "inputs": "int8"},
        {"bits": 8, "inputs": "int8", "rotated": True},
        {"bits": 8, "inputs": "int8", "coding": "trellis"},
        {"bits": 8, "inputs": "q8_K"},
        {"bits": 4, "inputs": "int8", "coding": "q4_K"},
    ],
)
def test_impossible_combinations(values: dict[str, object]) -> None:
    """A level that no container holds cannot be made."""
    with pytest.raises(SpecError):
        Level(**values)  # type: ignore[arg-type]
