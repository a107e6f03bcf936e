"""Keeps what `damping_choice` chose for a model: bit-width -> damping of its output factors.

They are estimated from few tokens, so that the fewer bits there are, and the larger errors, the less they may be
believed in detail. Integers tell, whose rounding is cheap; other codings take the same. None is one-sided rounding.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from workers.tasks import DAMPED_BITS
from workers.whole_files import write_text

if TYPE_CHECKING:
    from workers.compress.module_statistics import Dampings

USUAL = 0.3
CANDIDATES = (None, USUAL, 1.0, 0.1)
"""in the order in which they are tried"""


def _path(folder: Path, bits: int) -> Path:
    return folder / f"damping-{bits}.json"


def load_dampings(folder: Path) -> "Dampings":
    """Return what was chosen, of the bit-widths whose choice is there."""
    found = {}
    for bits in DAMPED_BITS:
        try:
            value = json.loads(_path(folder, bits).read_text(encoding="utf-8"))["damping"]
        except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged
            continue
        found[bits] = None if value is None else float(value)
    return found


def write_damping(folder: Path, bits: int, damping: float | None, measured: dict[str, float]) -> None:
    """Remember a choice, and the KL of what was tried."""
    write_text(_path(folder, bits), json.dumps({"damping": damping, "kl_divergence": measured}))
