"""JSON from outside is read strictly and within bounds."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.parsing.strict_json import parse_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_json_is_read_as_it_is(value: object) -> None:
    """As text and as bytes, with characters escaped or not; only half characters are another matter."""
    text = json.dumps(value)
    assert parse_json(text) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested too deeply"),
        ("[" * 101 + "]" * 101, "nested too deeply"),
        ('{"a": NaN}', "NaN is no finite number"),
        ("[-Infinity]", "-Infinity is no finite number"),
        ("1e999", "1e999 is no finite number"),
        ('{"a": {"b": 1, "c": 2, "b": 3}}', "holds 'b' twice"),
        (r'"\ud800"', "half of a character"),
        (r'{"\udc00a": 1}', "half of a character"),
        ('["\ud800"]', "half of a character"),
        (b'"\xff"', "can't decode"),
        ("\ufeff{}", "Expecting value"),
        ("", "Expecting value"),
        ("1" * 5000, "digits"),
        ("[" + "0," * 4_000_001 + "0]", "more than 4,000,000 values"),
    ],
)
def test_what_is_not_read(text: str | bytes, told: str) -> None:
    """Each with its reason, and soon."""
    began = time.monotonic()
    with pytest.raises(ValueError, match=told):
        parse_json(text)
    assert time.monotonic() - began < 5


def test_whole_characters_may_be_escaped() -> None:
    """Two halves that belong together are one character."""
    assert parse_json(r'"\ud83d\ude00"') == "\N{GRINNING FACE}"
    assert parse_json("[" * 100 + "]" * 100) is not None
