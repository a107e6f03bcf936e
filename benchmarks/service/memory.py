"""What `tightfit serve` holds of memory: before its first job, while one runs, after it, and some time later.

python -m benchmarks.service.memory

Memory is PSS (`/proc/*/smaps_rollup`): what processes share is counted once. Results:
`benchmarks/results/service/memory.json`.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2

from benchmarks.service.serving import Serving, serving

RESULTS = Path(__file__).resolve().parents[1] / "results" / "service" / "memory.json"
LIMIT_MB = 900
_NAMES = {
    "http_server": "API",
    "tightfit work": "controller",
    "spawn_main": "apart",
    "ray": "Ray",
    "mlflow": "MLflow",
    "tightfit serve": "supervisor",
}
_WAIT_SECONDS = 3600.0
_SHORT = {"bits": [4, 8], "group_sizes": [64], "sparsities": [0.0], "ranks": [0], "kinds": ["integer"]}
"""A narrow menu: what is held afterwards is of the front and its report, whatever was searched."""


def held(service: Serving) -> dict[str, float]:
    """Return process -> MB that are its own or its share of what others use too."""
    return {f"{_name(told)} {number}": _pss_mb(number) for number, told in service.processes().items()}


def _name(command: str) -> str:
    program, _, rest = command.partition(" ")
    return next((name for part, name in _NAMES.items() if part in command), f"{Path(program).name} {rest}"[:40])


def _pss_mb(number: int) -> float:
    try:
        lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith("Pss:")), 0.0)


def until(true: Callable[[], object], seconds: float = _WAIT_SECONDS) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.5)


def run(home: Path, rest_seconds: float) -> dict[str, Any]:
    """Return what is held at each moment."""
    found: dict[str, dict[str, float]] = {}

    def told(moment: str) -> None:
        found[moment] = held(service)
        parts = "  ".join(f"{name} {size:.0f}" for name, size in found[moment].items())
        print(f"{moment:28} {sum(found[moment].values()):6.0f} MB: {parts}", flush=True)

    with serving(TIGHTFIT_HOME=str(home)) as service, httpx2.Client(base_url=service.url, timeout=300) as client:
        until(lambda: client.get("/v1/about").json()["mlflow"])
        time.sleep(5)
        told("before the first job")
        asked = {"model": "bundled", "budget": "60%", "calibration": "python-stdlib", "max_trials": 20} | _SHORT
        job = f"/v1/jobs/{client.post('/v1/jobs', json=asked).raise_for_status().json()['job']}"
        until(lambda: client.get(job).json()["state"] == "RUNNING")
        time.sleep(10)
        told("while it runs")
        until(lambda: client.get(job).json()["state"] == "DONE")
        client.get(f"{job}/report").raise_for_status()
        client.get(f"{job}/explanation").raise_for_status()
        told("just after it")
        time.sleep(rest_seconds)
        told(f"{rest_seconds:.0f} s later")
    return found


def main() -> None:
    """Measure, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rest", type=float, default=100.0, help="seconds to wait after the job")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder) / "home", asked.rest)
    together = {moment: round(sum(parts.values())) for moment, parts in found.items()}
    asked.out.write_text(json.dumps({"limit_mb": LIMIT_MB, "together_mb": together, "mb": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
