"""From command-line text to a checked request."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from space.codings.coding_table import all_bits
from space.codings.masks import PATTERNS
from space.errors import SpecError
from space.menu import PLAIN
from space.spec import JobSpec, make_spec, sequences_of
from space.targets.target_table import TARGETS, target_of

_LISTS = {"group_sizes": "group_size", "sparsities": "sparsity", "ranks": "rank", "kinds": "kind", "pins": "pin"}


def spec_from_options(
    *,
    bits: str | None,
    group_size: str | None,
    sparsity: str | None,
    rank: str | None,
    kind: str | None,
    pin: list[str] | None,
    sequence_length: int | None = None,
    num_sequences: int | None = None,
    like: JobSpec | None = None,
    given: Collection[str] = (),
    **values: Any,
) -> JobSpec:
    """Return the request that options ask for; what is not given keeps its default, or what it was before.

    Where there is a request `like` it, what is not in `given`, the names of the options that were given, is as there.

    Raises:
        SpecError, BudgetError: an option cannot be read.

    """
    if bits is not None:
        values["bits"] = tuple(sorted({_number(text, "--bits") for text in _split(bits)}))
    if group_size is not None:
        values["group_sizes"] = tuple(_group(text) for text in _split(group_size))
    if sparsity is not None:
        values["sparsities"] = tuple(_sparsity(text) for text in _split(sparsity))
    if rank is not None:
        values["ranks"] = tuple(_number(text, "--rank") for text in _split(rank))
    if kind is not None:
        values["kinds"] = tuple(_split(kind))
    values["pins"] = tuple(_pin(text) for text in pin or ())
    if like is not None:
        kept = {name: value for name, value in values.items() if _LISTS.get(name, name) in given}
        revision = like.revision if values["model"] == like.model else None
        values = {**like.model_dump(), "revision": revision, **kept}
    if sequence_length is not None:
        values["sequence_length"] = sequence_length
    if num_sequences is not None:
        values |= sequences_of(num_sequences)
    spec = make_spec(**values)
    _refuse_what_no_file_holds(spec, {"sparsities": sparsity, "ranks": rank, "kinds": kind})
    return spec


def _refuse_what_no_file_holds(spec: JobSpec, given: Mapping[str, str | None]) -> None:
    """Refuse options that the target's files cannot hold; `given` is field of the request -> its option's text."""
    target = target_of(spec.target)
    for field, text in given.items():
        bits = all_bits() if field == "kinds" else PLAIN.bits
        levels = () if text is None else replace(PLAIN, **{field: getattr(spec, field), "bits": bits}).levels()
        for why in filter(None, map(target.why_not, levels)):
            others = [t.name for t in TARGETS.values() if all(t.why_not(level) is None for level in levels)]
            told = f"use --target {' or '.join(others)}" if others else "no target holds all of them"
            raise SpecError(f"--{_LISTS[field]} {text}: {target.name} {why}; {told}.")


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _number(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise SpecError(f"{option}: {text!r} is not a whole number.") from error


def _group(text: str) -> int | None:
    return None if text in ("channel", "ch") else _number(text, "--group-size")


def _sparsity(text: str) -> float | str:
    if text in PATTERNS:
        return text
    try:
        return float(text)
    except ValueError as error:
        raise SpecError(f"--sparsity: {text!r} is neither a share such as 0.5 nor 2:4.") from error


def _pin(text: str) -> tuple[str, str]:
    pattern, separator, level = text.rpartition("=")
    if not separator or not pattern:
        raise SpecError(f"--pin {text!r}: write REGEX=LEVEL, such as 'down_proj=b4-g64'.")
    return pattern, level
