"""EXL3's tiles against today's rotated trellis by the width of a matrix, both one-sided, at equal stored bits.

    python -m benchmarks.levels.by_width [--widths 256,1024,4096] [--bits 2,3,4] [--rows 256] [--out FILE]

Matrices are Gaussian. Their inputs have a covariance whose eigenvalues fall as 1 / k, turned at random, and channels
that differ in size by a lognormal factor: what inputs of language models look like. The error is
||(W - Q) X||² / ||W X||² of some rows, which are alike; bits are those of a square matrix, and where the two codings
differ in them, the trellis' error is moved along 6.02 dB a bit to those of EXL3.

Shape legend: O out_features, I in_features.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.cost import module_bytes
from space.inventory import ModuleInfo, TensorInfo
from space.level import parse_level
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics

RESULT = Path(__file__).resolve().parents[1] / "results" / "levels_by_width.json"
_SPREAD = 0.5  # of the logarithm of channels' sizes


def hessian(columns: int, seed: int = 0) -> Tensor:
    """Return an (I, I) float32 Hessian with the spectrum of a language model's inputs."""
    generator = torch.Generator().manual_seed(seed)
    turned, _ = torch.linalg.qr(torch.randn(columns, columns, generator=generator))
    values = 1 / torch.arange(1, columns + 1)
    sizes = torch.exp(_SPREAD * torch.randn(columns, generator=generator))
    found: Tensor = (turned * values) @ turned.T * sizes * sizes[:, None] * columns
    return (found + found.T) / 2


def measure(columns: int, rows: int, bits: int) -> dict[str, Any]:
    """Return errors and stored bits of both codings for one matrix, and their ratio at equal bits."""
    weight = torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))
    statistics = Statistics(hessian(columns))
    row: dict[str, Any] = {"columns": columns, "rows": rows, "bits": bits}
    square = ModuleInfo("square", "linear", TensorInfo("square.weight", (columns, columns), "F32"), block=0)
    for name, text in (("exl3", f"exl3-{bits}"), ("trellis", f"b{bits}-gch-t-h")):
        started = time.process_time()
        (built,) = build_levels(weight, statistics, [parse_level(text)])
        row[f"{name}_error"] = built.output_error
        row[f"{name}_bits"] = 8 * module_bytes(square, built.level) / columns**2
        row[f"{name}_cpu_seconds"] = round(time.process_time() - started, 1)
    row["ratio"] = row["exl3_error"] / (row["trellis_error"] * 4 ** (row["trellis_bits"] - row["exl3_bits"]))
    return row


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", default="256,1024,4096")
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for columns in map(int, options.widths.split(",")):
        for bits in map(int, options.bits.split(",")):
            rows.append(measure(columns, options.rows, bits))
            print(json.dumps(rows[-1]), flush=True)
            options.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
