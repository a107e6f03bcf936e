"""What building a wide weight's levels costs: all in one call, which share a factorization, against one call each.

    python -m benchmarks.levels.building [--rows 1024] [--columns 4096] [--pairs 3] [--out FILE]

Six integer levels of a random weight on one thread; CPU seconds, both sides in turn, and the median of their ratios.
"""

import argparse
import json
import os
from pathlib import Path

import torch

from benchmarks.levels.run import ROOT
from benchmarks.trials.timing import paired, ratio
from space.level import Level
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics

RESULT = ROOT / "benchmarks" / "results" / "levels_building.json"
LEVELS = [Level(bits, 64) for bits in (2, 3, 4, 5, 6, 8)]


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--columns", type=int, default=4096)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(options.rows, options.columns, generator=generator)
    inputs = torch.randn(options.columns + 64, options.columns, generator=generator)
    hessian = inputs.T @ inputs

    def together(_turn: int) -> None:
        build_levels(weight, Statistics(hessian), LEVELS)

    def one_by_one() -> None:
        for level in LEVELS:
            build_levels(weight, Statistics(hessian), [level])

    ours, theirs = paired(together, one_by_one, options.pairs)
    document = {
        "load_average": os.getloadavg()[0],
        "shape": [options.rows, options.columns],
        "together_seconds": [round(s, 2) for s in ours],
        "one_by_one_seconds": [round(s, 2) for s in theirs],
        "ratio": round(ratio(ours, theirs), 3),
    }
    print(json.dumps(document, indent=1))
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
