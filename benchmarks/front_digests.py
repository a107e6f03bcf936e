"""Digests of five jobs' fronts: what a change that should change nothing must leave as it is.

    python -m benchmarks.front_digests [--only NAME,...] [--homes DIR] [--write]

Runs the jobs on the bundled model as a user would and compares with `benchmarks/results/front_digests.json`; `--write`
writes that file instead. Exit 1 where a digest differs. Homes are kept in DIR where it is given.
"""

import argparse
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "front_digests.json"
_SMALL = ("--calibration", "python-stdlib", "--num-sequences", "48", "--sequence-length", "128")
JOBS: dict[str, tuple[str, ...]] = {
    "default": ("--budget", "3bpw"),
    "warm": ("--budget", "3.7bpw"),  # after "default", in its home
    "compressed-tensors": ("--budget", "4.5bpw", "--target", "compressed-tensors", "--max-trials", "120", *_SMALL),
    "streamed": ("--budget", "3.25bpw", "--worker-memory", "16MB", "--max-trials", "80", *_SMALL),
    "nsga2": ("--budget", "3.25bpw", "--sampler", "nsga2", "--max-trials", "80", *_SMALL),
}
"""Name -> options of `tightfit submit bundled`."""
_HOME_OF = {"warm": "default"}


def run_job(name: str, homes: Path) -> dict[str, Any]:
    """Return a job's digest, and what it took."""
    home = homes / _HOME_OF.get(name, name)
    command = [sys.executable, "-m", "tightfit", "submit", "bundled", *JOBS[name], "--json", "--home", str(home)]
    document = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    cost = document["cost"]
    return {
        "digest": front_digest(document),
        "points": len(document["front"]),
        "trials": cost["trials"],
        "token_forwards": cost["token_forwards"],
        "wall_seconds": round(cost["wall_seconds"], 1),
    }


def front_digest(document: dict[str, Any]) -> str:
    """Return the digest of all that a front tells, but its names and what the search cost."""
    told = {key: value for key, value in document.items() if key not in ("job", "cost", "metric")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def run_jobs(names: Sequence[str], homes: Path) -> dict[str, dict[str, Any]]:
    """Return what each job's front is."""
    found = {}
    for name in names:
        found[name] = run_job(name, homes)
        print(name, found[name], flush=True)
    return found


def differences(found: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> list[str]:
    """Return the jobs whose front is another one."""
    return [name for name, row in found.items() if row["digest"] != expected[name]["digest"]]


def main() -> None:
    """Run, compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(JOBS), help="names of jobs")
    parser.add_argument("--homes", type=Path, help="keep what the jobs make here")
    parser.add_argument("--write", action="store_true", help="write the committed file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tightfit-digests-") as folder:
        found = run_jobs(options.only.split(","), options.homes or Path(folder))
    if options.write:
        machine = {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
        RESULT.write_text(json.dumps({"machine": machine, "jobs": found}, indent=2) + "\n", encoding="utf-8")
        return
    others = differences(found, json.loads(RESULT.read_text(encoding="utf-8"))["jobs"])
    print(
        f"another front than before: {', '.join(others)}"
        if others
        else f"the same fronts: {len(found)} of {len(found)}"
    )
    sys.exit(bool(others))


if __name__ == "__main__":
    main()
