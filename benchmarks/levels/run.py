"""Output error of every kind of level against its stored bits, on matrices of two models.

    python -m benchmarks.levels.run [--models bundled,encoder] [--out FILE] && python -m benchmarks.levels.report

Errors are ||(W - Q) X||² / ||W X||² on the calibration text (what a search knows), and on text held out; ratios are
to symmetric GPTQ with group 64 at the same bits, geometric means over a model's matrices.
"""

import argparse
import json
from collections.abc import Mapping
from math import exp, log
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from benchmarks.levels.candidates import CANDIDATES
from benchmarks.levels.matrices import Matrix, ModelName, matrices
from space.level import Level, parse_level
from workers.compress.build import build_levels
from workers.compress.gptq import output_energy
from workers.compress.module_statistics import Statistics
from workers.kernels.unpack import unpack

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "levels.json"
BITS = (2, 3, 4)
KINDS: Mapping[str, tuple[str, ...]] = {
    "integer g32": tuple(f"b{b}-g32" for b in BITS),
    "integer g64": tuple(f"b{b}-g64" for b in BITS),
    "integer g128": tuple(f"b{b}-g128" for b in BITS),
    "integer": tuple(f"b{b}-gch" for b in BITS),
    "integer g64, rank 8": tuple(f"b{b}-g64-r8" for b in BITS),
    "integer g64, half zeros": ("b3-g64-s.5", "b4-g64-s.5", "b5-g64-s.5"),
    "integer, 2:4": ("b4-gch-s2:4", "b6-gch-s2:4"),
    "rotated": tuple(f"b{b}-gch-h" for b in BITS),
    "trellis": tuple(f"b{b}-gch-t" for b in BITS),
    "trellis, rotated": tuple(f"b{b}-gch-t-h" for b in BITS),
    "trellis, rotated, g64": tuple(f"b{b}-g64-t-h" for b in BITS),
    "trellis, rotated, rank 8": tuple(f"b{b}-gch-t-h-r8" for b in BITS),
    "trellis, rotated, half zeros": ("b3-gch-t-h-s.5", "b4-gch-t-h-s.5"),
}
BASE = "integer g64"
Row = dict[str, Any]


def measure(matrix: Matrix) -> list[Row]:
    """Return (kind, bits, bytes, errors) of every level of one matrix."""
    rows = []
    names = {parse_level(text): kind for kind, texts in KINDS.items() for text in texts}
    for built in build_levels(matrix.weight, Statistics(matrix.hessian), list(names)):
        weight = unpack(built.tensors, built.level, matrix.weight.shape[1])
        size = sum(tensor.nbytes for tensor in built.tensors.values())
        rows.append(_row(matrix, names[built.level], built.level, weight, size))
    for name, candidate in CANDIDATES.items():
        built_now = [(Level(b), candidate(matrix.weight, matrix.hessian, b)) for b in BITS]
        rows += [_row(matrix, name, level, *found) for level, found in built_now]
    return rows


def _row(matrix: Matrix, kind: str, level: Level, weight: Tensor, size: int) -> Row:
    residual = weight - matrix.weight
    error, held_out = (
        output_energy(residual, h) / output_energy(matrix.weight, h) for h in (matrix.hessian, matrix.held_out)
    )
    return {
        "kind": kind,
        "bits": level.bits,
        "stored_bits": 8 * size / weight.numel(),
        "error": error,
        "held_out": held_out,
    }


def summarise(by_matrix: list[list[Row]]) -> list[Row]:
    """Return one row per level: mean stored bits, geometric means of errors and of ratios to group 64 at those bits."""
    base = [{row["bits"]: row for row in rows if row["kind"] == BASE} for rows in by_matrix]
    found = []
    for same in zip(*by_matrix, strict=True):
        bits = same[0]["bits"]
        row: Row = {
            "kind": same[0]["kind"],
            "bits": bits,
            "stored_bits": round(mean(r["stored_bits"] for r in same), 4),
        }
        for key in ("error", "held_out"):
            row[key] = float(f"{_geometric_mean([r[key] for r in same]):.4g}")
        if bits in base[0]:
            for key, name in (("error", "ratio"), ("held_out", "held_out_ratio")):
                pairs = zip(same, base, strict=True)
                row[name] = round(_geometric_mean([r[key] / b[bits][key] for r, b in pairs]), 3)
        found.append(row)
    return found


def _geometric_mean(values: list[float]) -> float:
    return exp(mean(map(log, values)))


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="bundled,encoder")
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "tightfit-benchmarks" / "levels")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    document: dict[str, Any] = {}
    names: list[ModelName] = options.models.split(",")
    for name in names:
        by_matrix, shapes = [], {}
        for matrix in matrices(name, options.folder):
            by_matrix.append(measure(matrix))
            shapes[matrix.name] = list(matrix.weight.shape)
            print(name, matrix.name, flush=True)
        document[name] = {"matrices": shapes, "levels": summarise(by_matrix)}
        for row in document[name]["levels"]:
            print(row)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"Now: python -m benchmarks.levels.report --result {options.out}")


if __name__ == "__main__":
    main()
