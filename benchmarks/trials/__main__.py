"""What trials cost: one command, JSON, and a table in docs/benchmarks.md.

    python -m benchmarks.trials [--only trial,sweep,search,scaling,memory] [--folder ARENA] [--out FILE]

`python -m benchmarks.trials.controller` and `python -m benchmarks.trials.large` are runs of their own. CPU seconds of
one thread decide, except for scaling, which is wall time and needs idle cores.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.search.arena import Arena, default_folder
from benchmarks.trials import cost, memory, whole

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "trials" / "trials.json"
PARTS: Mapping[str, Callable[[Arena], Any]] = {
    "memory": memory.worker_memory,
    "levels": memory.level_store,
    "trial": cost.trial,
    "sweep": cost.sweep,
    "search": whole.default_search,
    "scaling": whole.scaling,
}


def main() -> None:
    """Measure what is asked, keep the other parts as they were, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    result["machine"] = {"cpus": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()}
    arena = Arena(options.folder)
    _ = arena.space
    for name in options.only.split(","):
        result[name] = PARTS[name](arena)
        print(json.dumps({name: result[name]}, indent=2), flush=True)
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
