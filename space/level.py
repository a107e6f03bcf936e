"""One setting of one module: bits, group size, coding, rotation, sparsity, rank, inputs, and the text users write."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from space.codings.coding_table import CODINGS, coding_of
from space.codings.input_formats import INPUT_FORMATS
from space.codings.masks import PATTERNS, UNSTRUCTURED, pattern_of
from space.errors import SpecError


@dataclass(frozen=True, order=True, slots=True)
class Level:
    """How one module's weight is stored.

    Attributes:
        bits: of a value, 2-8 for our own codings, or None: the weight is kept as it is in the checkpoint ("dense").
        group_size: consecutive columns that share one float16 scale; None is one scale per output channel.
        sparsity: share of zeros in each row, 0 <= sparsity < 1.
        pattern: where zeros may stand (`space/codings/masks.py`); "2:4" keeps two of every four consecutive columns.
        rank: rank of the 8-bit low-rank correction added to the quantized weight; 0 is none.
        coding: what the stored bits stand for, by name (`space/codings`): symmetric integers, or steps of a trellis.
            A coding that stands alone has no other field than bits.
        rotated: whether what is stored is the weight times a fixed random rotation of its columns.
        inputs: what the runtime rounds the module's inputs to, by name (`space/codings/input_formats.py`); empty where
            it takes them as they are, or where the coding says it.
        text: its text form, written once: searches ask for it, and for its hash, a few hundred times a plan.

    """

    bits: int | None = None
    group_size: int | None = None
    sparsity: float = 0.0
    pattern: str = "unstructured"
    rank: int = 0
    coding: str = "integer"
    rotated: bool = False
    inputs: str = ""
    text: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuse a combination that cannot be stored."""
        kind = (self.group_size, self.sparsity, self.rank, self.coding, self.rotated, self.inputs)
        if self.bits is None and kind != (None, 0.0, 0, "integer", False, ""):
            raise SpecError(
                "A dense level has no group size, coding, rotation, sparsity, rank or rounded inputs; give it bits "
                "(2-8) or drop them."
            )
        if self.bits is not None:
            self._check_coding(self.bits)
        if self.group_size is not None and self.group_size < 1:
            raise SpecError(f"group_size={self.group_size} must be at least 1; `channel` is one scale per row.")
        if not 0 <= self.sparsity < 1:
            raise SpecError(f"sparsity={self.sparsity} must be at least 0 and below 1.")
        if round(self.sparsity, 4) != self.sparsity:
            raise SpecError(f"sparsity={self.sparsity} has more than four decimals; round it.")
        fixed = pattern_of(self.pattern).sparsity
        if fixed is not None and self.sparsity != fixed:
            raise SpecError(f"The {self.pattern} pattern has sparsity {fixed}, not {self.sparsity}.")
        if self.rank < 0:
            raise SpecError(f"rank={self.rank} must not be negative.")
        object.__setattr__(self, "text", "dense" if self.is_dense else "".join(slot(self) for slot in SLOTS.values()))

    def __hash__(self) -> int:
        """Hash the text, which remembers its hash."""
        return hash(self.text)

    def _check_coding(self, bits: int) -> None:
        coding = coding_of(self.coding)
        if bits not in coding.bits:
            raise SpecError(f"bits={bits} cannot be stored; use {_told(coding.bits)}, or `dense`.")
        if coding.stands_alone and (self.group_size, self.sparsity, self.rank, self.rotated) != (None, 0.0, 0, False):
            raise SpecError(
                f"A level of {self.coding} has blocks and scales of its own: give it no group size, rotation, sparsity "
                "or rank."
            )
        if self.inputs and (self.rotated or bits not in coding.input_formats.get(self.inputs, ())):
            told = f"{bits}-bit {kind_of(self.coding, rotated=self.rotated)} weights"
            raise SpecError(f"inputs={self.inputs!r} do not go with {told}; leave them out.")

    @property
    def is_dense(self) -> bool:
        """Tell whether the weight stays as it is in the checkpoint."""
        return self.bits is None

    @property
    def is_stored(self) -> bool:
        """Tell whether a file of values is built for it."""
        return not self.is_dense and not self.is_of_cache

    @property
    def is_of_cache(self) -> bool:
        """Tell whether it is how a runtime remembers keys or values: no file has it, and nothing is built."""
        return CODINGS[self.coding].holds == "cache"

    @property
    def is_plain(self) -> bool:
        """Tell whether the level is quantization alone, without sparsity and rank."""
        return self.sparsity == 0 and self.rank == 0

    @property
    def is_integer(self) -> bool:
        """Tell whether the stored values are scaled integers of the weight itself, and inputs stay as they are."""
        return self.coding == "integer" and not self.rotated and not self.inputs

    @property
    def rounded_inputs(self) -> str:
        """Return what inputs are rounded to before the product, by name; empty where they stay as they are."""
        return self.inputs or CODINGS[self.coding].inputs

    @property
    def rate(self) -> float:
        """Return the bits per weight that its name promises, scales aside; 16 for a dense one."""
        return 16.0 if self.bits is None else CODINGS[self.coding].rate(self.bits)

    @property
    def kind(self) -> str:
        """Return what the stored values are, as the menu calls it.

        >>> Level(4).kind, Level(2, coding="trellis", rotated=True).kind, Level(2, rotated=True).kind, Level().kind
        ('integer', 'rotated-trellis', 'rotated', 'dense')
        """
        return "dense" if self.bits is None else kind_of(self.coding, rotated=self.rotated, inputs=self.inputs)

    def __str__(self) -> str:
        """Return the text form, such as `b4-g64-s.5-r16`, `b3-gch-s2:4`, `b2-gch-t-h` or `dense`.

        >>> str(Level(4, 64, sparsity=0.5, rank=16)), str(Level(2, coding="trellis", rotated=True))
        ('b4-g64-s0.5-r16', 'b2-gch-t-h')
        """
        return self.text


def _values_text(level: Level) -> str:
    coding = CODINGS[level.coding]
    if coding.stands_alone:
        return coding.texts[level.bits or 0]
    return f"b{level.bits}-g{level.group_size or 'ch'}{coding.mark}"


def _mask_text(level: Level) -> str:
    if level.pattern != UNSTRUCTURED.name:
        return f"-s{level.pattern}"
    return f"-s{level.sparsity:.4f}".rstrip("0") if level.sparsity else ""


SLOTS: dict[str, Callable[[Level], str]] = {
    "values": _values_text,
    "transform": lambda level: "-h" * level.rotated,
    "mask": _mask_text,
    "correction": lambda level: f"-r{level.rank}" if level.rank else "",
    "inputs": lambda level: INPUT_FORMATS[level.inputs].mark if level.inputs else "",
}
"""slot -> what a level's text has of it; joined in this order they are the text."""
DENSE = Level()


def _told(bits: Sequence[int]) -> str:
    whole = len(bits) > 1 and list(bits) == list(range(bits[0], bits[-1] + 1))
    return f"{bits[0]} to {bits[-1]}" if whole else ", ".join(map(str, bits))


def kind_of(coding: str, *, rotated: bool, inputs: str = "") -> str:
    """Return what a menu calls values of a coding, of the weight or of the rotated weight, and how inputs meet them."""
    if rotated:
        return "rotated" if coding == "integer" else f"rotated-{coding}"
    return coding + (INPUT_FORMATS[inputs].mark if inputs else "")


def num_groups(level: Level, in_features: int) -> int:
    """Return the number of scales per row; the last group may be smaller."""
    return 1 if level.group_size is None else -(-in_features // level.group_size)


def kept_columns(level: Level, in_features: int) -> int:
    """Return how many values of each row are kept."""
    return PATTERNS[level.pattern].kept(in_features, level.sparsity)


@lru_cache(maxsize=4096)
def parse_level(text: str) -> Level:
    """Read a level from its text form; a missing group means 64. Equal texts give the same object.

    `-t` is the trellis coding, `-h` the rotation (by Hadamard transforms), `-a8` 8-bit inputs.

    Raises:
        SpecError: the text is not a level.

    >>> parse_level("b3") == Level(3, 64), parse_level("b4-gch-s2:4") == Level(4, None, 0.5, "2:4")
    (True, True)

    """
    if text.strip() in ("dense", "16"):
        return DENSE
    if text.strip() in (alone := _texts_alone(tuple(CODINGS))):
        return alone[text.strip()]
    match = _pattern_of_texts(tuple(CODINGS), tuple(PATTERNS)).fullmatch(text.strip())
    if match is None:
        raise SpecError(
            f"{text!r} is not a level; write for example `b4-g64`, `b2-gch-t-h`, `b3-gch-s2:4-r16` or `dense`."
        )
    group = match["group"] or "64"
    sparsity, pattern = match["sparsity"] or "0", match["pattern"] or UNSTRUCTURED.name
    return Level(
        bits=int(match["bits"]),
        group_size=None if group == "ch" else int(group),
        sparsity=float(sparsity) if match["pattern"] is None else PATTERNS[pattern].sparsity or 0.0,
        pattern=pattern,
        rank=int(match["rank"] or 0),
        coding=next(c.name for c in CODINGS.values() if not c.stands_alone and c.mark == match["coding"]),
        rotated=bool(match["rotated"]),
        inputs=next((e.name for e in INPUT_FORMATS.values() if e.mark and e.mark == match["inputs"]), ""),
    )


@lru_cache
def _texts_alone(codings: Iterable[str]) -> dict[str, Level]:
    """Return text -> level of the codings that stand alone."""
    return {text: Level(bits, coding=name) for name in codings for bits, text in CODINGS[name].texts.items()}


@lru_cache
def _pattern_of_texts(codings: Iterable[str], patterns: Iterable[str]) -> re.Pattern[str]:
    """Return the expression of all texts of levels: a part for each slot, in the order of `Level.__str__`."""
    marks = "|".join(re.escape(CODINGS[name].mark) for name in codings if not CODINGS[name].stands_alone)
    names = "|".join(re.escape(name) for name in patterns if name != UNSTRUCTURED.name)
    inputs = "|".join(re.escape(entry.mark) for entry in INPUT_FORMATS.values() if entry.mark)
    return re.compile(
        rf"b(?P<bits>\d+)(-g(?P<group>\d+|ch))?(?P<coding>{marks})(?P<rotated>-h)?"
        rf"(-s((?P<pattern>{names})|(?P<sparsity>0?\.\d+)))?(-r(?P<rank>\d+))?(?P<inputs>{inputs})?"
    )
