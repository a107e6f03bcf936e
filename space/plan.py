"""A plan gives every module of a model one level; its digest is its name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from operator import itemgetter

from space.digest import digest
from space.level import DENSE, Level, parse_level

Choice = tuple[str, Level]
"""A module and its level."""


@dataclass(frozen=True)
class Plan:
    """Module name -> level, in the inventory's order; equal plans have equal digests whatever the order."""

    levels: tuple[Choice, ...]

    @staticmethod
    def of(levels: Mapping[str, Level]) -> "Plan":
        """Return the plan of a mapping."""
        return Plan(tuple(levels.items()))

    @property
    def cache_level(self) -> Level:
        """Return the first level of keys or values that are not in their runtime's own type; dense where all are."""
        return next((level for _, level in self.levels if level.is_of_cache), DENSE)

    @staticmethod
    def dense(names: Iterable[str]) -> "Plan":
        """Return the plan that leaves all modules of some names as they are."""
        return Plan.of(dict.fromkeys(names, DENSE))

    @staticmethod
    def from_json(levels: Mapping[str, str]) -> "Plan":
        """Read a plan from module name -> level text."""
        return Plan(tuple(map(_choice, levels.keys(), levels.values())))

    def to_json(self) -> dict[str, str]:
        """Return module name -> level text."""
        return dict(zip(map(itemgetter(0), self.levels), self.texts, strict=True))

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """Return the levels' texts."""
        return tuple([level.text for _, level in self.levels])

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of the plan's canonical JSON."""
        return digest(self.to_json())

    @cached_property
    def mapping(self) -> Mapping[str, Level]:
        """Return module name -> level."""
        return dict(self.levels)

    def __hash__(self) -> int:
        """Hash the texts: a text remembers its hash, and a level does not."""
        return hash(self.texts)

    def __getitem__(self, module_name: str) -> Level:
        """Return a module's level."""
        return self.mapping[module_name]

    def replace(self, changes: Mapping[str, Level]) -> "Plan":
        """Return a plan with some modules' levels changed."""
        return Plan(tuple((c[0], changes[c[0]]) if c[0] in changes else c for c in self.levels))


@lru_cache(maxsize=1 << 14)
def _choice(module_name: str, text: str) -> Choice:
    """Return a choice; thousands of plans in memory share a few thousand of them."""
    return module_name, parse_level(text)
