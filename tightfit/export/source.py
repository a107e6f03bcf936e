"""Where a plan's bytes come from, and what was written of them."""

from dataclasses import dataclass
from pathlib import Path

from space.inventory import Inventory
from space.plan import Plan
from workers.levels.level_store import LevelStore


@dataclass(frozen=True, slots=True)
class Source:
    """Where a plan's bytes come from."""

    model_folder: Path
    inventory: Inventory
    levels: LevelStore
    plan: Plan


@dataclass(frozen=True, slots=True)
class Written:
    """What was written: bytes of the tensors, of the whole weight files, what `cost` had said, and name -> sha256."""

    folder: Path
    size_bytes: int
    file_bytes: int
    predicted_bytes: int
    digests: dict[str, str]
