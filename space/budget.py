"""Budgets: what users write (`4GiB`, `3.5MB`, `60%`, `3.25bpw`) and the bytes it means for one model."""

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
_TEXT = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)\s*(?P<unit>%|[A-Za-z]+)")
_HELP = "write a size (`4GiB`, `3.5MB`), a share of the dense checkpoint (`60%`) or bits per weight (`3.25bpw`)"


@dataclass(frozen=True, slots=True)
class Budget:
    """A memory budget as written: `unit` is an upper-case byte unit, `%` or `BPW`."""

    number: float
    unit: str

    def size_bytes(self, inventory: Inventory) -> int:
        """Return the budget in bytes for one model, rounded down."""
        if self.unit == "%":
            return int(inventory.dense_bytes * self.number / 100)
        if self.unit == "BPW":
            return int(inventory.num_parameters * self.number / 8)
        return int(self.number * _UNITS[self.unit])


def parse_budget(text: str) -> Budget:
    """Read a budget.

    Raises:
        BudgetError: the text is not a budget, has no unit, or is not above zero.

    >>> parse_budget("3.25bpw"), parse_budget("60 %")
    (Budget(number=3.25, unit='BPW'), Budget(number=60.0, unit='%'))

    """
    match = _TEXT.fullmatch(text.strip())
    if match is None:
        raise BudgetError(f"Budget {text!r} cannot be read: {_HELP}.")
    number, unit = float(match["number"]), match["unit"].upper()
    if unit not in (*_UNITS, "%", "BPW"):
        raise BudgetError(f"Budget {text!r} has the unknown unit {match['unit']!r}: {_HELP}.")
    if not 0 < number < _MAX_NUMBER:
        raise BudgetError(f"Budget {text!r} must be above zero and below {_MAX_NUMBER:.0e}: {_HELP}.")
    return Budget(number, unit)


def parse_bytes(text: str) -> int:
    """Read a size in bytes.

    Raises:
        BudgetError: the text is no size.

    >>> parse_bytes("1.5KiB")
    1536

    """
    found = parse_budget(text)
    if found.unit not in _UNITS:
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
