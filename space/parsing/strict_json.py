"""JSON from outside: finite numbers, one value a name, whole characters; bounded in depth and in number of values."""

import json
import re
from collections import Counter
from math import isfinite
from typing import Any, NoReturn

_MAX_VALUES = 4_000_000
_MAX_DEPTH = 100
_HUGE = re.compile(r"\d[eE]\+?\d{3}")  # numbers that may be infinite to Python
_SURROGATES = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises:
        ValueError: it is not JSON, repeats a name, holds half a character or a number that is not finite, or is nested
            deeper or larger than anything that is meant to be read.

    """
    if isinstance(text, bytes):
        text = text.decode()
    if text.count(",") + text.count("[") + text.count("{") > _MAX_VALUES:  # what is parsed takes 20 times the memory
        raise ValueError(f"it holds more than {_MAX_VALUES:,} values")
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    _check_depth(value)
    if _SURROGATES.search(text):
        _check_characters(value)
    return value


def parse_own_json(text: str | bytes) -> Any:
    """Return the value of a JSON text that we wrote, as fast as can be; numbers that are not finite are refused.

    SQLite gives it as text, PostgreSQL as UTF-8.

    Raises:
        TypeError, ValueError: it is not JSON any more.

    """
    read = text.decode() if isinstance(text, bytes) else text
    if _HUGE.search(read):
        return parse_json(read)
    return json.loads(read, parse_constant=_no_constant)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"it holds {twice!r} twice")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no finite number")


def _check_depth(value: Any) -> None:
    layer, depth = [value], 0
    while layer:
        if depth >= _MAX_DEPTH:
            raise ValueError("it is nested too deeply")
        inner = (v.values() if isinstance(v, dict) else v for v in layer if isinstance(v, dict | list))
        layer, depth = [v for values in inner for v in values if isinstance(v, dict | list)], depth + 1


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("it holds half of a character (a lone surrogate)") from None


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
