"""A step of the check: the large model packed, with kinds of levels: speed beside the dense model's, and memory."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.figures import Figures, clock_of, figures_of_arguments, held_bytes, peak_bytes
from benchmarks.gpu.large_model import model_folder
from benchmarks.packed.__main__ import DECODED, decode, export, paired, prefill
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.runtime.loaders.exported_loaders import load_exported

KINDS = {"integer, 4 bits": "b4-g64", "rotated trellis, 3 bits": "b3-gch-t-h"}
_PREFILL = 512
_KIND_SECONDS = 10.0  # that a kind takes at least


def _speeds(figures: Figures, kind: str, folder: Path, dense: Any, ids: Tensor) -> None:
    """Export, load and run one kind of level beside the dense model."""
    packed, before = None, 0
    with TemporaryDirectory(dir=figures.work) as out:
        with figures.part(f"{kind}: levels and files"):
            size = export(folder, KINDS[kind], Path(out), figures.device)
            figures.add(f"{kind}: bytes over the dense model's", round(size / inspect_model(folder).dense_bytes, 3))
        before = held_bytes(figures.device)
        with figures.part(f"{kind}: loading"):
            packed, problems = load_exported(Path(out) / "export", figures.device)
            figures.add(f"{kind}: memory of its weights", round((held_bytes(figures.device) - before) / 1e9, 3), "GB")
            if problems:
                figures.fail(f"{kind}: {problems}")
    runs: tuple[tuple[str, Callable[[Any, Tensor], None], int], ...]
    runs = (("prefill", prefill, ids.shape[1]), ("decoding", decode, DECODED))
    for name, work, count in runs if packed is not None else ():
        with figures.part(f"{kind}: {name}"):
            own, other = paired((packed, dense), work, ids, clock_of(figures.device))
            figures.add(f"{kind}: {name}, speed", round(count / median(own), 1), "tokens/s")
            ratio = median(b / a for a, b in zip(own, other, strict=True))
            figures.add(f"{kind}: {name}, dense model's", round(count / median(other), 1), "tokens/s")
            figures.add(f"{kind}: {name}, over the dense model's", round(ratio, 3), "times")
            peak = peak_bytes(figures.device) - before
            figures.add(f"{kind}: {name}, memory beside the dense model", round(peak / 1e9, 3), "GB")


def main() -> int:
    """Measure each kind."""
    figures, dense = figures_of_arguments(), None
    with figures.part("loading the dense model"):
        folder = model_folder(figures)
        dense = load_model(folder, figures.device)
        ids = (torch.arange(64 if figures.is_small else _PREFILL)[None] % 97 + 5).to(figures.device)
    for kind in list(KINDS)[: 1 if figures.is_small else None] if dense is not None else ():
        if time.monotonic() > figures.deadline - _KIND_SECONDS:
            figures.add(kind, "no time left for it")
            continue
        with torch.no_grad():
            _speeds(figures, kind, folder, dense, ids)
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
