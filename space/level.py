"""One setting of one module: bits, group size, coding, rotation, sparsity and rank, and the text form users write."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from space.errors import SpecError

Pattern = Literal["unstructured", "2:4"]
Coding = Literal["integer", "trellis"]
BITS = (2, 3, 4, 5, 6, 7, 8)
_TEXT = re.compile(
    r"b(?P<bits>\d+)(-g(?P<group>\d+|ch))?(?P<trellis>-t)?(?P<rotated>-h)?"
    r"(-s(?P<sparsity>0?\.\d+|2:4))?(-r(?P<rank>\d+))?"
)


@dataclass(frozen=True, order=True, slots=True)
class Level:
    """How one module's weight is stored.

    Attributes:
        bits: 2-8, or None: the weight is kept as it is in the checkpoint ("dense").
        group_size: consecutive columns that share one float16 scale; None is one scale per output channel.
        sparsity: share of zeros in each row, 0 <= sparsity < 1.
        pattern: where zeros may stand; "2:4" keeps two of every four consecutive columns (sparsity 0.5).
        rank: rank of the 8-bit low-rank correction added to the quantized weight; 0 is none.
        coding: what the stored bits stand for: symmetric integers, or steps through a trellis over 2^(bits + 1) values.
        rotated: whether what is stored is the weight times a fixed random rotation of its columns.

    """

    bits: int | None = None
    group_size: int | None = None
    sparsity: float = 0.0
    pattern: Pattern = "unstructured"
    rank: int = 0
    coding: Coding = "integer"
    rotated: bool = False

    def __post_init__(self) -> None:
        """Refuse a combination that cannot be stored."""
        kind = (self.group_size, self.sparsity, self.rank, self.coding, self.rotated)
        if self.bits is None and kind != (None, 0.0, 0, "integer", False):
            raise SpecError(
                "A dense level has no group size, coding, rotation, sparsity or rank; give it bits (2-8) or drop them."
            )
        if self.bits is not None and self.bits not in BITS:
            raise SpecError(f"bits={self.bits} cannot be stored; use 2 to 8, or `dense`.")
        if self.group_size is not None and self.group_size < 1:
            raise SpecError(f"group_size={self.group_size} must be at least 1; `channel` is one scale per row.")
        if not 0 <= self.sparsity < 1:
            raise SpecError(f"sparsity={self.sparsity} must be at least 0 and below 1.")
        if round(self.sparsity, 4) != self.sparsity:
            raise SpecError(f"sparsity={self.sparsity} has more than four decimals; round it.")
        if self.pattern == "2:4" and self.sparsity != 0.5:  # noqa: PLR2004 (two of four)
            raise SpecError(f"The 2:4 pattern has sparsity 0.5, not {self.sparsity}.")
        if self.rank < 0:
            raise SpecError(f"rank={self.rank} must not be negative.")

    @property
    def is_dense(self) -> bool:
        """Tell whether the weight stays as it is in the checkpoint."""
        return self.bits is None

    @property
    def is_plain(self) -> bool:
        """Tell whether the level is quantization alone, without sparsity and rank."""
        return self.sparsity == 0 and self.rank == 0

    @property
    def is_integer(self) -> bool:
        """Tell whether the stored values are scaled integers of the weight itself, as ordinary runtimes hold them."""
        return self.coding == "integer" and not self.rotated

    @property
    def kind(self) -> str:
        """Return what the stored values are, as the menu calls it.

        >>> Level(4).kind, Level(2, coding="trellis", rotated=True).kind, Level(2, rotated=True).kind, Level().kind
        ('integer', 'rotated-trellis', 'rotated', 'dense')
        """
        if self.bits is None:
            return "dense"
        if self.coding == "trellis":
            return "rotated-trellis" if self.rotated else "trellis"
        return "rotated" if self.rotated else "integer"

    def __str__(self) -> str:
        """Return the text form, such as `b4-g64-s.5-r16`, `b3-gch-s2:4`, `b2-gch-t-h` or `dense`.

        >>> str(Level(4, 64, sparsity=0.5, rank=16)), str(Level(2, coding="trellis", rotated=True))
        ('b4-g64-s0.5-r16', 'b2-gch-t-h')
        """
        if self.bits is None:
            return "dense"
        text = f"b{self.bits}-g{self.group_size or 'ch'}"
        text += "-t" * (self.coding == "trellis") + "-h" * self.rotated
        if self.pattern == "2:4":
            text += "-s2:4"
        elif self.sparsity:
            text += f"-s{self.sparsity:.4f}".rstrip("0")
        return text + (f"-r{self.rank}" if self.rank else "")


DENSE = Level()


@lru_cache(maxsize=4096)
def parse_level(text: str) -> Level:
    """Read a level from its text form; a missing group means 64. Equal texts give the same object.

    `-t` is the trellis coding, `-h` the rotation (by Hadamard transforms).

    Raises:
        SpecError: the text is not a level.

    >>> parse_level("b3") == Level(3, 64), parse_level("b4-gch-s2:4") == Level(4, None, 0.5, "2:4")
    (True, True)

    """
    if text.strip() in ("dense", "16"):
        return DENSE
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise SpecError(
            f"{text!r} is not a level; write for example `b4-g64`, `b2-gch-t-h`, `b3-gch-s2:4-r16` or `dense`."
        )
    group = match["group"] or "64"
    sparsity = match["sparsity"] or "0"
    return Level(
        bits=int(match["bits"]),
        group_size=None if group == "ch" else int(group),
        sparsity=0.5 if sparsity == "2:4" else float(sparsity),
        pattern="2:4" if sparsity == "2:4" else "unstructured",
        rank=int(match["rank"] or 0),
        coding="trellis" if match["trellis"] else "integer",
        rotated=bool(match["rotated"]),
    )
