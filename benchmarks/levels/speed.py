"""What unpacking costs: CPU milliseconds for a 1024 x 1024 weight on one thread, for each kind of level.

    python -m benchmarks.levels.speed [--out FILE]

All levels and the dense product with a batch of 256 tokens run in turn, and each turn gives ratios to that product:
medians of CPU time, so that what else a machine does matters little.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch

from benchmarks.levels.run import ROOT
from space.level import parse_level
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics
from workers.kernels.unpack import unpack

RESULT = ROOT / "benchmarks" / "results" / "levels_speed.json"
LEVELS = (
    *(f"b{bits}-{rest}" for bits in (2, 3, 4) for rest in ("g64", "gch-t", "gch-h", "gch-t-h")),
    *("b8-g64", "b8-gch-t-h", "b4-g64-s0.5", "b4-g64-s2:4", "b3-g64-r8"),
)
BATCH = 256
_DENSE = "dense product with 256 tokens"
_SIZE = 1024
_TURNS = 41


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weight = torch.randn(_SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    work: dict[str, Callable[[], object]] = {
        _DENSE: partial(torch.nn.functional.linear, torch.randn(BATCH, _SIZE), weight),
        "dense product with one token": partial(torch.nn.functional.linear, torch.randn(1, _SIZE), weight),
    }
    for built in build_levels(weight, Statistics(torch.eye(_SIZE)), [parse_level(text) for text in LEVELS]):
        work[str(built.level)] = partial(unpack, built.tensors, built.level, _SIZE)
    seconds = in_turn(work)
    document = {
        "load_average": os.getloadavg()[0],
        "milliseconds": {name: round(1000 * statistics.median(own), 2) for name, own in seconds.items()},
        f"over {_DENSE}": {
            name: round(statistics.median(a / b for a, b in zip(own, seconds[_DENSE], strict=True)), 3)
            for name, own in seconds.items()
        },
    }
    print(json.dumps(document, indent=1))
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def in_turn(work: Mapping[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return name -> CPU seconds of each of its turns, after one that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(_TURNS + 1):
        for name, run in work.items():
            started = time.thread_time()
            run()
            seconds[name].extend([time.thread_time() - started] if turn else [])
    return seconds


if __name__ == "__main__":
    main()
