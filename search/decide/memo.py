"""What a search would work out again and again, kept; it decides nothing."""

from collections.abc import Callable, Sequence
from operator import is_
from typing import Any, TypeVar

T = TypeVar("T")
Item = TypeVar("Item")


class Memo:
    """The last value under each name."""

    def __init__(self) -> None:
        """Remember nothing."""
        self._kept: dict[str, tuple[list[object], Any]] = {}

    def recall(self, name: str, made_of: Sequence[object], make: Callable[[], T]) -> T:
        """Return the value that was made of these very objects, or make it."""
        known = self._kept.get(name)
        if known is None or not _are_same(known[0], made_of):
            known = self._kept[name] = (list(made_of), make())
        value: T = known[1]
        return value

    def grow(self, name: str, items: Sequence[Item], begin: Callable[[], T], add: Callable[[T, Item], None]) -> T:
        """Return what was begun empty and has taken these very items; of those that it has, none is added again."""
        known = self._kept.get(name)
        if known is None or not _are_same(known[0], items[: len(known[0])]):
            known = self._kept[name] = ([], begin())
        taken, value = known
        for item in items[len(taken) :]:
            add(value, item)
            taken.append(item)
        grown: T = value
        return grown


def _are_same(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))
