"""What unpacking costs: milliseconds for a 1024 x 1024 weight on one thread, best of many, for each kind of level.

python -m benchmarks.levels.speed [--out FILE]
"""

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks.levels.run import ROOT
from space.level import parse_level
from workers.compress.build import build_levels
from workers.compress.packing import unpack

RESULT = ROOT / "benchmarks" / "results" / "levels_speed.json"
LEVELS = ("b3-g64", "b3-gch-t", "b3-gch-h", "b3-gch-t-h", "b4-g64", "b4-gch-t-h")
_SIZE = 1024
_REPEATS = 200


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    weight = torch.randn(_SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    one_token, best = torch.randn(1, _SIZE), {}
    for built in build_levels(weight, torch.eye(_SIZE), [parse_level(text) for text in LEVELS]):
        best[str(built.level)] = _best_ms(partial(unpack, built.tensors, built.level, _SIZE))
    best["dense product with one token"] = _best_ms(partial(torch.nn.functional.linear, one_token, weight))
    print(best)
    options.out.write_text(json.dumps({"milliseconds": best}, indent=1) + "\n", encoding="utf-8")


def _best_ms(work: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return round(1000 * min(seconds), 2)


if __name__ == "__main__":
    main()
