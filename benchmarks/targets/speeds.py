"""How fast the exports of `benchmarks.targets.matrix` make text, each in its own runtime, beside the dense model.

    python -m benchmarks.targets.speeds --home DIR [--budget 6bpw] [--threads 1] [--runs 7] [--out FILE]

DIR is the home that the matrix had. Rows are what `tightfit speed --json` prints of each folder, one after another, on
an idle machine.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.targets.input_rounding import ROOT

RESULT = ROOT / "benchmarks" / "results" / "targets_speeds.json"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--budget", default="6bpw")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    folders = sorted((options.home / "matrix").glob(f"*-{options.budget}"))
    rows = [_row("bundled", "dense", options)]
    rows += [
        _row(str(folder), folder.name, options) for folder in folders if not folder.name.startswith(("exl3", "vllm"))
    ]
    machine = {"cpus": os.cpu_count(), "processor": platform.machine(), "load_average": os.getloadavg()[0]}
    options.out.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n", encoding="utf-8")


def _row(folder: str, name: str, options: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "tightfit", "speed", folder, "--threads", str(options.threads)]
    command += ["--runs", str(options.runs), "--json"]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    row = {"name": name, **{key: found[key] for key in ("runtime", "machine", "num_prompt", "num_tokens", "runs")}}
    row |= {key: {k: round(v, 1) for k, v in found[key].items()} for key in ("prefill", "decode")}
    print(json.dumps(row), flush=True)
    return row


if __name__ == "__main__":
    main()
