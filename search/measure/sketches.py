"""Sketches of probes on disk: too large for the records, and worth keeping for the next job."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from space.digest import digest
from space.plan import Plan
from workers.whole_files import replacing


@dataclass(frozen=True, slots=True)
class SketchBook:
    """Sketches of one model: arrays of float16, one file per (plan, evaluation), whole or absent."""

    folder: Path

    def put(self, plan: Plan, evaluation_digest: str, sketch: np.ndarray) -> None:
        """Keep a sketch."""
        with replacing(self._path(plan, evaluation_digest)) as temporary, temporary.open("wb") as file:
            np.save(file, sketch)

    def get(self, plan: Plan, evaluation_digest: str) -> np.ndarray | None:
        """Return a sketch, memory-mapped, or None where it is not (or no longer whole)."""
        path = self._path(plan, evaluation_digest)
        try:
            found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found

    def _path(self, plan: Plan, evaluation_digest: str) -> Path:
        key = digest([plan.digest, evaluation_digest])
        return self.folder / key[:2] / f"{key}.npy"
