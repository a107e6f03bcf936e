"""Values that come back from JSON, held against the types that their kind declares."""

import json
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

_SHOWN = 60  # characters of a wrong value


def check_kind(kind: Any, value: Any) -> None:
    """Refuse a JSON value that is not one of a kind: a type, or a dataclass of such, whose tuples are lists in JSON.

    Raises:
        ValueError: names the place, and what is wrong there.

    """
    try:
        _adapter(kind).validate_json(
            json.dumps(value), strict=True
        )  # of Python's values it would take no list as a tuple
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        seen = repr(first["input"])
        seen = seen if len(seen) <= _SHOWN else f"{seen[:_SHOWN]}..."
        raise ValueError(f"{place} is {seen}: {first['msg'].lower()}") from None


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
