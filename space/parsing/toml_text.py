"""TOML from outside, within bounds: what JSON could say too."""

import tomllib
from typing import Any

_MAX_CHARACTERS, _MAX_DOTS = 65_536, 1_000  # a dotted key takes time by the square of its length
_PLAIN = (str, int, float, bool)


def parse_toml(text: str) -> dict[str, Any]:
    """Return the keys of a TOML text.

    Raises:
        ValueError: it is not TOML, repeats a key, is too long or nested too deeply, or holds a date.

    """
    if len(text) > _MAX_CHARACTERS:
        raise ValueError(f"it is longer than {_MAX_CHARACTERS:,} characters")
    if text.count(".") > _MAX_DOTS:
        raise ValueError(f"it holds more than {_MAX_DOTS:,} dots")
    try:
        found = tomllib.loads(text)
        _check_plain(found)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return found


def _check_plain(value: Any) -> None:
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_plain(inner)
    elif not isinstance(value, _PLAIN):
        raise ValueError(f"{value} is a date or a time")  # noqa: TRY004 (of a text, not of an argument)
