"""What the search for EXL3's symbols finds and costs: error of Gaussian values, and weights per second of one core.

    python -m benchmarks.levels.exl3_encoder [--tiles 96] [--out FILE]

Values of variance one are rounded at each bit-width with the spread that levels are built with, one thread, seconds of
its own CPU time; the share that the reference leaves (frontier: exllamav3's own search) stands beside.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch

from benchmarks.levels.run import ROOT
from workers.compress.exl3.exl3_rounding import SPREAD
from workers.compress.exl3.ring_search import best_states
from workers.kernels.exl3.exl3_code import RING, codebook

RESULT = ROOT / "benchmarks" / "results" / "exl3_encoder.json"
REFERENCE = {2: 0.0691, 3: 0.0178, 4: 0.00455}
"""bits -> mean squared error with exllamav3's codebook and two passes, spread chosen on a grid"""
_PARTS = 8  # the fastest counts: others use the machine too


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiles", type=int, default=96)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    values = torch.randn(options.tiles, RING, generator=torch.Generator().manual_seed(0))
    rows = []
    for bits in range(1, 9):
        best_states(values[:1], bits)  # compiled now
        found, seconds = [], []
        for part in values.chunk(_PARTS):
            started = time.process_time()
            found.append(codebook()[best_states(part * SPREAD[bits], bits)] / SPREAD[bits])
            seconds.append((time.process_time() - started) / part.numel())
        error = float((torch.cat(found) - values).square().mean())
        row = {"bits": bits, "error": round(error, 6), "weights_per_second": round(1 / min(seconds))}
        row["median_weights_per_second"] = round(1 / sorted(seconds)[len(seconds) // 2])
        row |= {"over_reference": round(error / REFERENCE[bits], 3)} if bits in REFERENCE else {}
        rows.append(row)
        print(json.dumps(row), flush=True)
    document = {"weights": values.numel(), "threads": 1, "load_average": os.getloadavg()[0], "levels": rows}
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
