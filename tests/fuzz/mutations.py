"""Seeded damage: to JSON values, to texts and to bytes, small enough that what surrounds it stays as it was."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from typing import Any

Json = Any
_DEEP = 3000  # levels of nesting


def odd_value(rng: random.Random) -> Json:
    """Return a value that hardly anybody expects."""
    big = 10 ** rng.choice([4, 6, 9, 10, 19, 30])
    return rng.choice(
        [
            *(None, True, False, 0, -1, 1, 7, big, -big, 0.5, -1.5, 1e300, float("nan"), float("inf")),
            *("", "x", "..", "/", "../x", "NaN", "b4-g64", "\x00", "\ud800", "\u202e", "a" * 5000, "0", "1e3"),
            *([], {}, [[]], [0], [0, 8], {"a": 1}, [None] * 3, list(range(50))),
        ]
    )


def mutate_json(value: Json, rng: random.Random, times: int = 1) -> Json:
    """Return a copy of a value with something in it changed, gone, added or moved."""
    value = deepcopy(value)
    for _ in range(times):
        holder, key = _place(value, rng)
        if holder is None:
            return odd_value(rng)
        rng.choice([_replace, _replace, _retype, _remove, _add, _scale])(holder, key, rng)
    return value


def _place(value: Json, rng: random.Random) -> tuple[Any, Any]:
    """Return a dict or list inside a value and a key of it, each depth as likely as the next."""
    found: list[tuple[Any, Any]] = []
    while isinstance(value, dict | list) and value:
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        found.append((value, key))
        value = value[key]
    return rng.choice(found) if found else (None, None)


def _replace(holder: Any, key: Any, rng: random.Random) -> None:
    holder[key] = odd_value(rng)


def _retype(holder: Any, key: Any, rng: random.Random) -> None:
    value = holder[key]
    holder[key] = rng.choice([str(value), [value], {"a": value}, str(value).encode().hex(), [value, value]])


def _remove(holder: Any, key: Any, _: random.Random) -> None:
    del holder[key]


def _add(holder: Any, key: Any, rng: random.Random) -> None:
    if isinstance(holder, dict):
        holder[rng.choice(["", "..", str(key) + "x", "__metadata__", "quantization_config"])] = deepcopy(holder[key])
    else:
        holder.insert(key, deepcopy(holder[key]))


def _scale(holder: Any, key: Any, rng: random.Random) -> None:
    value = holder[key]
    if isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = rng.choice([value + 1, value - 1, -value, value * 2, value * 10**6, float(value), value / 3])
    elif isinstance(value, str):
        holder[key] = mutate_text(value, rng)
    else:
        holder[key] = odd_value(rng)


def as_text(value: Json, rng: random.Random) -> bytes:
    """Return a value as JSON, now and then as no strict one."""
    text = json.dumps(value)
    if rng.random() < 0.1:
        text = rng.choice(
            [
                text[: rng.randrange(len(text) + 1)],
                f"{text}{text}",
                '{"a":' * _DEEP + text + "}" * _DEEP,
                "[" * _DEEP + "]" * _DEEP,
                text.replace(":", ": NaN,", 1),
                text.replace("{", '{"a": 1, "a": 2, ', 1),
                f"\ufeff{text}",
                "",
            ]
        )
    return text.encode(errors="surrogatepass")


def mutate_text(text: str, rng: random.Random) -> str:
    """Return a text with a few characters changed."""
    odd = "\x00\x1b\ud800\u202e\N{GRINNING FACE}'\"\\/{}[](),=:;%?#@~*+-.0123456789 \n\t"
    changes: list[Callable[[str, int], str]] = [
        lambda s, i: s[:i] + s[i + 1 :],
        lambda s, i: s[:i] + rng.choice(odd) + s[i:],
        lambda s, i: s[:i] + rng.choice(odd) + s[i + 1 :],
        lambda s, i: s[:i] + s[i:] * 2,
        lambda s, i: s[:i],
        lambda s, i: s[i:],
        lambda s, _: s.swapcase(),
        lambda s, i: s[:i] + "9" * rng.choice([3, 20, 400]) + s[i:],
    ]
    for _ in range(rng.randint(1, 3)):
        text = rng.choice(changes)(text, rng.randrange(len(text) + 1))
    return text


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Return bytes with some flipped, gone, inserted or doubled."""
    for _ in range(rng.randint(1, 4)):
        i = rng.randrange(len(data) + 1)
        n = rng.choice([1, 2, 8, 100])
        data = rng.choice(
            [
                data[:i] + rng.randbytes(n) + data[i + n :],
                data[:i] + data[i + n :],
                data[:i] + rng.randbytes(n) + data[i:],
                data[:i],
                data[:i] + data[max(0, i - n) : i] + data[i:],
            ]
        )
    return data
