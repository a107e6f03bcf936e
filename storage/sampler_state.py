"""How a trial came to be asked: what a search that is resumed needs to go on as if it had never stopped."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class SamplerState:
    """Kept with each trial.

    Attributes:
        num_sequences: of the search text that it was measured on; None: all of it.
        base: module -> text of a level, of the plan whose neighbour was measured (a probe's operating point).
        batch: the number of the first trial that was asked with it; None where it was not asked.
        known: an earlier job measured it.
        system_attrs: what Optuna's samplers keep with a trial (JSON).

    """

    num_sequences: int | None = None
    base: Mapping[str, str] | None = None
    batch: int | None = None
    known: bool = False
    system_attrs: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}

    @staticmethod
    def from_json(value: Any) -> "SamplerState":
        """Read the JSON object; names that only another tightfit knows are passed over. Raises ValueError."""
        if not isinstance(value, dict):
            raise ValueError(f"sampler_state is {value!r}")  # noqa: TRY004 (where all others are told)
        for name, kinds in _KINDS.items():
            if not isinstance(value.get(name), kinds):
                raise ValueError(f"sampler_state: {name} is {value[name]!r}")  # noqa: TRY004
        return SamplerState(**{name: value[name] for name in _KINDS if value.get(name) is not None})


_KINDS: Mapping[str, tuple[type, ...]] = {
    "num_sequences": (int, type(None)),
    "base": (dict, type(None)),
    "batch": (int, type(None)),
    "known": (bool, type(None)),
    "system_attrs": (dict, type(None)),
}
