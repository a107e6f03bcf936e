"""What every coding tells of itself: its text in a level, what it may be combined with, and its exact bytes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from space.inventory import TensorInfo

BITS = (2, 3, 4, 5, 6, 7, 8)
"""What our own codings store, and what a menu has unless its codings say otherwise."""


def _fits_all(_rows: int, _columns: int) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to store the values of a weight: the `values` slot of a level.

    Attributes:
        name: as in `Level.coding`.
        mark: what a level's text has of it, behind bits and group; empty for integers.
        bits: the whole bit-widths that it stores, as a menu asks for them.
        has_groups: the menu gives it group sizes; else it takes one scale per output channel.
        layout: (rows, values kept in each row, bits) -> the tensors that hold the values, named within their module.
        texts: bits -> the whole text of a level of a coding that stands alone: it has blocks, scales and, if any, a
            transform of its own, so that its levels have no group size, rotation, zeros or correction, and its layout
            is all that a module stores. Empty for codings that combine with other slots.
        fits: (rows, columns) -> whether a weight of that shape can be stored.
        rate: bits -> bits per weight, where blocks hold more than the values themselves.
        seconds_per_value: bits -> core seconds that making a value takes on a CPU, for codings whose search is long.
        inputs: what the runtime of a coding that stands alone rounds inputs to, by name; empty: nothing.
        input_formats: what levels of a coding that combines may round inputs to, beside nothing -> at which bits.
        holds: what it stores: weights, or the keys and values that a runtime remembers; those are in no file.

    """

    name: str
    mark: str
    bits: tuple[int, ...]
    has_groups: bool
    layout: Callable[[int, int, int], tuple[TensorInfo, ...]]
    texts: Mapping[int, str] = field(default_factory=dict)
    fits: Callable[[int, int], bool] = _fits_all
    rate: Callable[[int], float] = float
    seconds_per_value: Mapping[int, float] = field(default_factory=dict)
    inputs: str = ""
    input_formats: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    holds: Literal["weights", "cache"] = "weights"

    @property
    def stands_alone(self) -> bool:
        """Tell whether levels of it have no other slot than their values."""
        return bool(self.texts)


def bit_stream(rows: int, kept: int, bits: int) -> tuple[TensorInfo, ...]:
    """Return the layout of one little-endian bit stream per row, padded to whole bytes."""
    return (TensorInfo("qweight", (rows, -(-kept * bits // 8)), "U8"),)
