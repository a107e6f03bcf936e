"""A plan gives every module of a model one level; its digest is its name."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from space.digest import digest
from space.level import Level, parse_level


@dataclass(frozen=True)
class Plan:
    """Module name -> level, in the inventory's order; equal plans have equal digests whatever the order."""

    levels: tuple[tuple[str, Level], ...]

    @staticmethod
    def of(levels: Mapping[str, Level]) -> "Plan":
        """Return the plan of a mapping."""
        return Plan(tuple(levels.items()))

    @staticmethod
    def from_json(levels: Mapping[str, str]) -> "Plan":
        """Read a plan from module name -> level text."""
        return Plan(tuple((name, parse_level(text)) for name, text in levels.items()))

    def to_json(self) -> dict[str, str]:
        """Return module name -> level text."""
        return {name: str(level) for name, level in self.levels}

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the plan's canonical JSON."""
        return digest(self.to_json())

    @cached_property
    def mapping(self) -> Mapping[str, Level]:
        """Return module name -> level."""
        return dict(self.levels)

    def __getitem__(self, module_name: str) -> Level:
        """Return a module's level."""
        return self.mapping[module_name]

    def replace(self, changes: Mapping[str, Level]) -> "Plan":
        """Return a plan with some modules' levels changed."""
        return Plan(tuple((name, changes.get(name, level)) for name, level in self.levels))
