r"""Held-out KL of the fronts of two checkouts of this repository at equal bytes, on the bundled model; both run anew.

    git worktree add BEFORE 8727642    # the menu before rounding knew of the loss
    python -m benchmarks.levels.fronts --before BEFORE [--budgets 3,2.25,2.5,3.5,4,4.5] [--homes DIR] [--out FILE]
    python -m benchmarks.levels.fronts --before BEFORE --budgets 3,4,2.25,4.5,2.5,3.5 \
        --after-options="--preset thorough" --out FILE -- --num-sequences 256

Each checkout runs one job a budget in one home: the first searches, later ones begin with what it found. Between two
points of its fronts the logarithm of the KL is straight in bytes. More options of `tightfit submit` follow `--`; text
must be the same for both.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "levels_fronts.json"
Point = tuple[int, float]
"""bytes, held-out KL"""


def run_job(checkout: Path, home: Path, budget: str, more: Sequence[str]) -> dict[str, Any]:
    """Return the front document of a job."""
    command = [sys.executable, "-m", "tightfit", "submit", "bundled", "--budget", f"{budget}bpw", "--json"]
    command += ["--calibration", "python-stdlib", "--home", str(home), *more]
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=checkout, env=environment)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def points_of(document: dict[str, Any]) -> list[Point]:
    """Return the points of a front."""
    return [(p["size_bytes"], p["kl_divergence"]) for p in document["front"]]


def kl_at(points: Sequence[Point], size: float) -> float | None:
    """Return the KL that a front has at some bytes, None outside of its sizes.

    >>> kl_at([(100, 0.4), (200, 0.1), (160, 0.5)], 150)
    0.2
    """
    front: list[Point] = []
    for point in sorted(points):
        if not front or point[1] < front[-1][1]:
            front.append(point)
    below = max((p for p in front if p[0] <= size), default=None)
    above = min((p for p in front if p[0] >= size), default=None)
    if below is None or above is None:
        return None
    share = 0.0 if above[0] == below[0] else (size - below[0]) / (above[0] - below[0])
    return round(math.exp(math.log(below[1]) * (1 - share) + math.log(above[1]) * share), 9)


def main() -> None:
    """Run, compare and write after each budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--after", type=Path, default=ROOT)
    parser.add_argument("--budgets", default="3,2.25,2.5,3.5,4,4.5", help="bits per weight")
    parser.add_argument("--after-options", default="", help="options of `tightfit submit` for the newer one alone")
    parser.add_argument("--homes", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("more", nargs="*", help="options of `tightfit submit` for both")
    options = parser.parse_args()
    more = {"before": options.more, "after": [*options.after_options.split(), *options.more]}
    checkouts = {"before": options.before.resolve(), "after": options.after.resolve()}
    with tempfile.TemporaryDirectory(prefix="tightfit-fronts-") as folder:
        homes = (options.homes or Path(folder)).resolve()
        found: dict[str, list[Point]] = {name: [] for name in checkouts}
        sizes: dict[str, int] = {}
        seconds: list[dict[str, Any]] = []
        for budget in options.budgets.split(","):
            for name, checkout in checkouts.items():
                document = run_job(checkout, homes / name, budget, more[name])
                found[name] += points_of(document)
                sizes[budget] = document["budget_bytes"]
                seconds.append({"menu": name, "budget": budget, "wall_seconds": document["cost"]["wall_seconds"]})
            options.out.write_text(json.dumps(_result(found, sizes, seconds), indent=1) + "\n")


def _result(found: dict[str, list[Point]], sizes: dict[str, int], seconds: list[dict[str, Any]]) -> dict[str, Any]:
    rows = []
    for budget, size in sizes.items():
        row: dict[str, Any] = {"bits": float(budget), "bytes": size}
        row |= {name: kl_at(points, size) for name, points in found.items()}
        whole = row["before"] and row["after"]
        rows.append(row | {"ratio": round(row["after"] / row["before"], 3) if whole else None})
        print(json.dumps(rows[-1]), flush=True)
    return {"rows": rows, "jobs": seconds}


if __name__ == "__main__":
    main()
