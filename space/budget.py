"""Budgets: what users write (`4GiB`, `60%`, `3.25bpw`, `30tok/s@273GB/s`) and the bytes it means for one model."""

import re
from dataclasses import dataclass

from space.errors import BudgetError
from space.inventory import Inventory

_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_RUNTIME_SHARE, _RUNTIME_LEAST = 10, 2**29
_MAX_NUMBER = 1e18  # beyond it the bytes would no longer be a finite float
_NUMBER = r"(\d+(\.\d+)?|\.\d+)"
_TEXT = re.compile(rf"((?P<speed>{_NUMBER})\s*tok/s\s*@\s*)?(?P<number>{_NUMBER})\s*(?P<unit>%|[A-Za-z]+)(?P<each>/s)?")
_HELP = (
    "write a size (`4GiB`, `3.5MB`), a share of the dense checkpoint (`60%`), bits per weight (`3.25bpw`), or tokens a "
    "second at a memory bandwidth (`30tok/s@273GB/s`); several with commas between them are all kept"
)


@dataclass(frozen=True, slots=True)
class Budget:
    """A memory budget as written.

    Attributes:
        number, unit: the unit is an upper-case byte unit, `%` or `BPW`.
        tokens_per_second: where it is a bandwidth, how often a second all bytes are read with it; else None.

    """

    number: float
    unit: str
    tokens_per_second: float | None = None

    def size_bytes(self, inventory: Inventory) -> int:
        """Return the budget in bytes for one model, rounded down."""
        if self.unit == "%":
            return int(inventory.dense_bytes * self.number / 100)
        if self.unit == "BPW":
            return int(inventory.num_parameters * self.number / 8)
        return int(self.number * _UNITS[self.unit] / (self.tokens_per_second or 1))


@dataclass(frozen=True, slots=True)
class Budgets:
    """Several budgets, all to be kept."""

    all: tuple[Budget, ...]

    def size_bytes(self, inventory: Inventory) -> int:
        """Return the bytes of the smallest for one model."""
        return min(budget.size_bytes(inventory) for budget in self.all)


def parse_budget(text: str) -> Budget | Budgets:
    """Read a budget, or several with commas between them.

    `30tok/s@273GB/s` is what memory of that bandwidth reads thirty times a second: an estimate by the roofline model
    (Williams et al. 2009) of what a dense model that reads all its bytes for a token can reach at most. Embeddings that
    are looked up, and experts that are not chosen, are counted though they are not read.

    Raises:
        BudgetError: the text is not a budget, has no unit, or is not above zero.

    >>> parse_budget("3.25bpw"), parse_budget("60 %")
    (Budget(number=3.25, unit='BPW', tokens_per_second=None), Budget(number=60.0, unit='%', tokens_per_second=None))
    >>> parse_budget("4GiB, 20 tok/s @ 100GB/s").all[1]
    Budget(number=100.0, unit='GB', tokens_per_second=20.0)

    """
    found = tuple(_parsed(part, text) for part in text.split(","))
    return found[0] if len(found) == 1 else Budgets(found)


def _parsed(part: str, text: str) -> Budget:
    match = _TEXT.fullmatch(part.strip())
    if match is None:
        raise BudgetError(f"Budget {text!r} cannot be read: {_HELP}.")
    number, unit, speed = float(match["number"]), match["unit"].upper(), float(match["speed"] or 1)
    if unit not in (*_UNITS, "%", "BPW"):
        raise BudgetError(f"Budget {text!r} has the unknown unit {match['unit']!r}: {_HELP}.")
    if not (0 < number < _MAX_NUMBER and 0 < speed < _MAX_NUMBER):
        raise BudgetError(f"Budget {text!r} must be above zero and below {_MAX_NUMBER:.0e}: {_HELP}.")
    if (match["each"] is not None) != (match["speed"] is not None) or (match["speed"] and unit not in _UNITS):
        raise BudgetError(f"Budget {text!r} cannot be read: {_HELP}.")
    return Budget(number, unit, None if match["speed"] is None else speed)


def parse_bytes(text: str) -> int:
    """Read a size in bytes.

    Raises:
        BudgetError: the text is no size.

    >>> parse_bytes("1.5KiB")
    1536

    """
    found = parse_budget(text)
    if isinstance(found, Budgets) or found.unit not in _UNITS or found.tokens_per_second is not None:
        raise BudgetError(f"{text!r} is no size: write bytes, such as `4GiB` or `3.5MB`.")
    return int(found.number * _UNITS[found.unit])


def left_of_device(text: str) -> int:
    """Return the bytes of a device's memory that are left for weights and cache: the runtime has a tenth for itself.

    So much vLLM leaves alone by default (`--gpu-memory-utilization 0.9`); contexts, kernels and activations of other
    runtimes are taken to be as large, at least half a GiB. No runtime was measured for it.

    Raises:
        BudgetError: the text is no size, or nothing is left.

    >>> format_bytes(left_of_device("24GiB")), format_bytes(left_of_device("1GiB"))
    ('21.60 GiB', '512.00 MiB')
    """
    size = parse_bytes(text)
    left = size - max(_RUNTIME_LEAST, -(-size // _RUNTIME_SHARE))
    if left <= 0:
        raise BudgetError(f"{text!r}: the runtime alone takes {format_bytes(_RUNTIME_LEAST)} of a device.")
    return left


def format_bytes(size_bytes: float) -> str:
    """Return a size for people, in binary units.

    >>> format_bytes(3_500_000), format_bytes(812)
    ('3.34 MiB', '812 B')
    """
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size_bytes < 1024:  # noqa: PLR2004 (binary units)
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.2f} {unit}"
        size_bytes /= 1024
    return f"{size_bytes:.2f} TiB"
