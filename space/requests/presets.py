"""How much work a job is, in one word: presets are fields of `JobSpec`, all of them in one table."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from space.errors import SpecError
from space.menu import Menu
from space.spec import JobSpec, option_of, sequences_of, spec_of

PresetName = Literal["quick", "balanced", "thorough"]
BALANCED = "balanced"


@dataclass(frozen=True, slots=True)
class Preset:
    """What one word stands for.

    Attributes:
        summary: for people.
        values: field of `JobSpec` -> value; what is not there keeps its default.

    """

    summary: str
    values: Mapping[str, Any]


PRESETS: Mapping[str, Preset] = {
    "quick": Preset(
        "a first look: fewer levels, a quarter of the text, at most 100 trials",
        {"group_sizes": (64, None), "sparsities": (0.0,), "ranks": (0,), "max_trials": 100, **sequences_of(32)},
    ),
    BALANCED: Preset("the defaults", {}),
    "thorough": Preset(
        "twice the text, levels of EXL3 where 128 divides both sides of a weight, and a search that goes on "
        "where earlier jobs know enough",
        {"kinds": (*Menu().kinds, "exl3"), "refine": True, **sequences_of(256)},
    ),
}
assert tuple(PRESETS) == get_args(PresetName)  # noqa: S101 (one list of names for people and one for types)


def resolved(given: Mapping[str, Any], preset: str | None = None, called: Callable[[str], str] = option_of) -> JobSpec:
    """Return the request that values ask for: what is not given is as in a preset, and by default where it has none.

    Args:
        given: field of `JobSpec` -> value.
        preset: its name; None is the balanced one.
        called: field -> how whoever gave it calls it, for errors.

    Raises:
        SpecError, BudgetError: there is no such preset, or a value is not allowed.

    """
    return spec_of({**preset_of(preset or BALANCED).values, **given}, called)


def preset_of(name: str) -> Preset:
    """Return a preset by its name. Raises SpecError."""
    if name not in PRESETS:
        raise SpecError(f"preset {name[:100]!r} is not known; there are {', '.join(PRESETS)}.")
    return PRESETS[name]
