"""From command-line text, a file and a preset to a checked request."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from space.budget import left_of_device
from space.codings.coding_table import all_bits
from space.codings.masks import PATTERNS
from space.errors import BudgetError, SpecError, UsageError
from space.menu import PLAIN
from space.requests.job_document import PRESET, read_document
from space.requests.presets import PRESETS, preset_of, resolved
from space.spec import JobSpec, option_of, sequences_of
from space.targets.target_table import TARGETS, target_of
from workers.bounded_files import read_bounded, user_path

_LISTS = {"group_sizes": "group_size", "sparsities": "sparsity", "ranks": "rank", "kinds": "kind", "pins": "pin"}
_MAX_BYTES = 2**20  # of a file that holds a request


@dataclass(frozen=True, slots=True)
class Ground:
    """What a request is where no option is given.

    Attributes:
        values: field -> value.
        name: of the file or job that has them; "" where there is none.
        preset: for what they leave open; None where nobody named one.
        is_file: messages about a value name the file.

    """

    values: Mapping[str, Any]
    name: str = ""
    preset: str | None = None
    is_file: bool = False

    def sources(self, typed: Collection[str]) -> dict[str, str]:
        """Return field -> who says it, of all fields that are not as by default; `typed` are those of options."""
        found = dict.fromkeys(() if self.preset is None else preset_of(self.preset).values, f"preset {self.preset}")
        return found | dict.fromkeys(self.values, self.name) | {name: option_of(name) for name in typed}


def ground_of(config: Path | None, preset: str | None, like: JobSpec | None, job: str | None) -> Ground:
    """Return what `--config`, `--preset` and `--like` say together.

    Raises:
        UsageError: two of them say the same, or the file cannot be used.

    """
    if preset is not None:
        _check_preset(preset, "--preset")
    if like is not None:
        if config is not None or preset is not None:
            option = "--preset" if config is None else "--config"
            raise UsageError(f"--like and {option}: a job's request is whole; leave one of them out.")
        return Ground(like.model_dump(), f"job {job}")
    if config is None:
        return Ground({}, preset=preset)
    values = _read(config)
    own = values.pop(PRESET, None)
    if own is not None:
        _check_preset(own, f"{config}, preset:")
    said = {} if preset is None else preset_of(preset).values
    open_ones = {name for name in said if JobSpec.model_fields[name].default is None}  # which a file leaves out
    if said and said.keys() - open_ones <= values.keys():
        raise UsageError(f"--preset {preset}: {config} says all that it would say. Leave one of them out.")
    return Ground(values, str(config), preset or own, is_file=True)


def _check_preset(name: Any, called: str) -> None:
    if name not in PRESETS:
        raise SpecError(f"{called} {name!r} is not known; there are {', '.join(PRESETS)}.")


def _read(config: Path) -> dict[str, Any]:
    try:
        text = read_bounded(user_path(config), _MAX_BYTES).decode()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--config {config}: cannot be read ({reason}); name a TOML or JSON file of a job.") from error
    return read_document(text, str(config))


def spec_from_options(
    *,
    bits: str | None,
    group_size: str | None,
    sparsity: str | None,
    rank: str | None,
    kind: str | None,
    cache_bits: str | None = None,
    device_memory: str | None = None,
    pin: list[str] | None,
    sequence_length: int | None = None,
    num_sequences: int | None = None,
    ground: Ground,
    given: Collection[str],
    **values: Any,
) -> tuple[JobSpec, dict[str, str]]:
    """Return the request that options ask for, and field -> who says it where that is not the default.

    What is not in `given`, the names of the options that were given, is as `ground` has it.

    Raises:
        SpecError, BudgetError: an option cannot be read.

    """
    texts = {"bits": bits, "group_sizes": group_size, "sparsities": sparsity, "ranks": rank, "kinds": kind}
    texts["cache_bits"] = cache_bits
    values |= {field: _READERS[field](text) for field, text in texts.items() if text is not None}
    if device_memory is not None:
        given = {*given, "budget"}
        values["budget"] = _budget_of(device_memory, values, ground)
    values["pins"] = tuple(_pin(text) for text in pin or ())
    typed = {name: value for name, value in values.items() if _LISTS.get(name, name) in given}
    if sequence_length is not None:
        typed["sequence_length"] = sequence_length
    if num_sequences is not None:
        typed |= sequences_of(num_sequences)
    kept = dict(ground.values)
    if "model" in typed and typed["model"] != kept.get("model"):
        kept.pop("revision", None)  # it is of the other model
    _check_complete({**kept, **typed})
    spec = _resolved(kept, typed, ground)
    _refuse_what_no_file_holds(spec, {"sparsities": sparsity, "ranks": rank, "kinds": kind})
    return spec, ground.sources(typed)


def _budget_of(device_memory: str, values: Mapping[str, Any], ground: Ground) -> str:
    """Return what a device's memory leaves, beside the budget that is asked for. Raises UsageError, BudgetError."""
    if not (values["context"] or ground.values.get("context")):
        raise UsageError(f"--device-memory {device_memory}: say how many tokens the cache holds, too (--context).")
    try:
        left = f"{left_of_device(device_memory)}B"
    except BudgetError as error:
        raise BudgetError(f"--device-memory {error}") from error
    return left if values["budget"] is None else f"{values['budget']},{left}"


def _check_complete(values: Mapping[str, Any]) -> None:
    for field, option, example in (("model", "MODEL", "`bundled`"), ("budget", "--budget", "60%")):
        if field not in values:
            raise UsageError(
                f"{option} is missing: give one, such as {example}, or a file that has it (--config); see --help."
            )


def _resolved(kept: Mapping[str, Any], typed: Mapping[str, Any], ground: Ground) -> JobSpec:
    """Return the checked request; what is wrong is called as whoever gave it wrote it."""
    from_file = ground.values.keys() - typed.keys() if ground.is_file else frozenset[str]()

    def called(field: str) -> str:
        return f"{ground.name}, {field}:" if field in from_file else option_of(field)

    try:
        spec = resolved({**kept, **typed}, ground.preset, called)
    except BudgetError as error:
        raise BudgetError(f"{called('budget')} {error}" if "budget" in from_file else str(error)) from error
    default = resolved({"model": spec.model, "budget": spec.budget}, ground.preset)
    for field in ("sparsities", "ranks", "kinds"):
        if field in from_file and getattr(spec, field) not in (
            getattr(default, field),
            JobSpec.model_fields[field].default,
        ):
            _refuse_what_is_not_held(spec, field, called(field))
    return spec


def _refuse_what_no_file_holds(spec: JobSpec, given: Mapping[str, str | None]) -> None:
    """Refuse options that the target's files cannot hold; `given` is field of the request -> its option's text."""
    for field, text in given.items():
        if text is not None:
            _refuse_what_is_not_held(spec, field, f"{option_of(field)} {text}:")


def _refuse_what_is_not_held(spec: JobSpec, field: str, called: str) -> None:
    target, bits = target_of(spec.target), all_bits() if field == "kinds" else PLAIN.bits
    levels = replace(PLAIN, **{field: getattr(spec, field), "bits": bits}).levels()
    for why in filter(None, map(target.why_not, levels)):
        others = [t.name for t in TARGETS.values() if all(t.why_not(level) is None for level in levels)]
        told = f"use --target {' or '.join(others)}" if others else "no target holds all of them"
        raise SpecError(f"{called} {target.name} {why}; {told}.")


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


def _numbers(option: str) -> Callable[[str], tuple[int, ...]]:
    return lambda text: tuple(_number(part, option) for part in _split(text))


_READERS: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "bits": lambda text: tuple(sorted({*_numbers("--bits")(text)})),
    "group_sizes": lambda text: tuple(map(_group, _split(text))),
    "sparsities": lambda text: tuple(map(_sparsity, _split(text))),
    "ranks": _numbers("--rank"),
    "kinds": lambda text: tuple(_split(text)),
    "cache_bits": _numbers("--cache-bits"),
}
"""field of a request -> what its option's text means"""
