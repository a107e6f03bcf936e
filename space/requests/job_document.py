"""A request as a file that people write, keep and send: the fields of `JobSpec` as TOML, or as JSON."""

import json
import re
from difflib import get_close_matches
from typing import Any

from space.errors import SpecError
from space.parsing.strict_json import parse_json
from space.parsing.toml_text import parse_toml
from space.spec import JobSpec, option_of

PRESET = "preset"
_CHANNEL = "channel"  # TOML has no null: one scale a channel, as the command line says it
_KEYS = (PRESET, *JobSpec.model_fields)
_AT_REVISION = re.compile(r"[^/.~][^/]*/[^/@]+@[^/]+")  # org/name@revision
_NAMES = {option_of(field).removeprefix("--"): field for field in JobSpec.model_fields} | {
    "num-sequences": "num_samples`, `num_search_samples` and `num_held_out_samples"
}


def to_toml(spec: JobSpec) -> str:
    """Return a whole request as TOML: `read_document` and `spec_of` make the same request of it, of the same digest.

    Fields that are None are left out, which means the same.
    """
    values = {name: value for name, value in spec.model_dump(mode="json").items() if value is not None}
    lines = [f"{name} = {_toml(value)}" for name, value in values.items()]
    return "# A job: `tightfit submit --config FILE` submits it.\n" + "\n".join(lines) + "\n"


def read_document(text: str, name: str) -> dict[str, Any]:
    """Return field -> value of a request, and `preset` where it names one; values are checked by who makes a spec.

    Args:
        text: TOML, or JSON where the name ends so.
        name: of the file, for errors.

    Raises:
        SpecError: it cannot be read, a key is not known, or two keys say the same thing.

    """
    kind = "JSON" if name.lower().endswith(".json") else "TOML"
    try:
        values = parse_json(text) if kind == "JSON" else parse_toml(text)
    except ValueError as error:  # of both formats
        raise SpecError(f"{name} is no {kind} that can be read ({error}); mend it there.") from error
    if not isinstance(values, dict):
        raise SpecError(f"{name}: it is no object of keys; write model, budget and what else differs from a preset.")
    for key in values:
        _check_key(key, name)
    if "revision" in values and _AT_REVISION.fullmatch(str(values.get("model"))):
        raise SpecError(f"{name}: model names a revision after its @, and revision is another key; keep one of both.")
    return values


def _check_key(key: str, name: str) -> None:
    if key in _KEYS:
        return
    meant = _NAMES.get(key.replace("_", "-")) or next(iter(get_close_matches(key, _KEYS, 1)), None)
    mend = f"write `{meant}`" if meant else f"take it out; there are {', '.join(_KEYS)}"
    raise SpecError(f"{name}: {key[:100]!r} is no key of a job; {mend}.")


def _toml(value: Any) -> str:
    r"""Return a value as TOML; None stands in lists of group sizes alone.

    >>> _toml(["a\x7f", 64, None, 0.5, True])
    '["a\\u007f", 64, "channel", 0.5, true]'
    """
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if value is None:
        value = _CHANNEL
    if isinstance(value, str):  # TOML escapes what JSON does, and DEL
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)
