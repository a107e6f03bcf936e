"""What every coding tells of itself: its text in a level, what it may be combined with, and its exact bytes."""

from collections.abc import Callable
from dataclasses import dataclass

from space.inventory import TensorInfo

BITS = (2, 3, 4, 5, 6, 7, 8)


@dataclass(frozen=True, slots=True)
class Coding:
    """One way to store the values of a weight.

    Attributes:
        name: as in `Level.coding`.
        mark: what a level's text has of it, behind bits and group; empty for integers.
        bits: the bit-widths that it stores.
        has_groups: the menu gives it group sizes; else it takes one scale per output channel.
        layout: (rows, values kept in each row, bits) -> the tensors that hold the values, named within their module.

    """

    name: str
    mark: str
    bits: tuple[int, ...]
    has_groups: bool
    layout: Callable[[int, int, int], tuple[TensorInfo, ...]]


def bit_stream(rows: int, kept: int, bits: int) -> tuple[TensorInfo, ...]:
    """Return the layout of one little-endian bit stream per row, padded to whole bytes."""
    return (TensorInfo("qweight", (rows, -(-kept * bits // 8)), "U8"),)
