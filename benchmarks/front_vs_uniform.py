"""How much lower the front's held-out KL is than a uniform plan's of the same size, on the bundled model.

    python benchmarks/front_vs_uniform.py [--seed S] [--out FILE]

Runs one job and prints, for every uniform bit-width, the best point of the front that is no larger.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def run_job(seed: int, home: Path) -> dict[str, Any]:
    """Return the front document of one job on the bundled model."""
    command = [sys.executable, "-m", "tightfit", "submit", "bundled", "--budget", "3.25bpw", "--json"]
    command += ["--calibration", "python-stdlib", "--seed", str(seed), "--home", str(home)]
    document: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return document


def compare(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per uniform plan: its KL, the front's at no more bytes, and their ratio."""
    rows = []
    for uniform in document["uniform"]:
        fitting = [p["kl_divergence"] for p in document["front"] if p["size_bytes"] <= uniform["size_bytes"]]
        best = min(fitting, default=float("nan"))
        row = {"level": uniform["level"], "size_bytes": uniform["size_bytes"], "uniform_kl": uniform["kl_divergence"]}
        rows.append(row | {"front_kl": best, "ratio": best / uniform["kl_divergence"]})
    return rows


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        document = run_job(arguments.seed, Path(home))
    machine = {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    result = {"seed": arguments.seed, "machine": machine, "cost": document["cost"], "rows": compare(document)}
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
