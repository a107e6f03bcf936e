"""Where zeros may stand in a row: patterns of pruning, how many columns they keep, and how a mask is stored."""

from collections.abc import Callable
from dataclasses import dataclass

from space.errors import SpecError
from space.inventory import TensorInfo

PRUNING_BLOCK = 128


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern of zeros.

    Attributes:
        name: as in `Level.pattern`.
        sparsity: the only one that it has, None where it takes any.
        divides: columns of a row are a multiple of it.
        kept: (columns, sparsity) -> values kept in each row.
        row_bytes: columns -> bytes of one row's mask.

    """

    name: str
    sparsity: float | None
    divides: int
    kept: Callable[[int, float], int]
    row_bytes: Callable[[int], int]

    def layout(self, rows: int, columns: int) -> tuple[TensorInfo, ...]:
        """Return the stored mask of a weight."""
        return (TensorInfo("mask", (rows, self.row_bytes(columns)), "U8"),)


def _kept_by_blocks(columns: int, sparsity: float) -> int:
    """Return how many values are kept: pruning works in blocks of 128 columns with an exact count each."""
    widths = [min(PRUNING_BLOCK, columns - start) for start in range(0, columns, PRUNING_BLOCK)]
    return sum(width - int(width * sparsity) for width in widths)


UNSTRUCTURED = Pattern("unstructured", None, 1, _kept_by_blocks, lambda columns: -(-columns // 8))
"""One bit per column."""
TWO_OF_FOUR = Pattern("2:4", 0.5, 4, lambda columns, _: columns // 2, lambda columns: -(-(columns // 4 * 3) // 8))
"""One of six codes, three bits, per four columns."""
PATTERNS: dict[str, Pattern] = {pattern.name: pattern for pattern in (UNSTRUCTURED, TWO_OF_FOUR)}


def pattern_of(name: str) -> Pattern:
    """Return the pattern of a name. Raises SpecError."""
    if name not in PATTERNS:
        raise SpecError(f"{name!r} is no pattern of zeros; there are {', '.join(PATTERNS)}.")
    return PATTERNS[name]
