"""Reads of a service whose database holds 1,000 jobs of 1,000 trials, on SQLite and on PostgreSQL.

python -m benchmarks.service.many_jobs

Each read is asked for alone, some times after another, of `tightfit serve` as it runs; CPU is that of its API process,
for a machine that others use too. Results: `benchmarks/results/service/many_jobs.json`.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import httpx2

from benchmarks.service.filled_store import fill, job_name
from benchmarks.service.serving import Serving, serving
from storage.sql.sql_store import SqlStore
from tests.postgres import find_programs, private_postgres
from tightfit.http.shared_answers import SECONDS as SHARE_SECONDS

RESULTS = Path(__file__).resolve().parents[1] / "results" / "service" / "many_jobs.json"
REPEATS = 20
NUM_MODULES = 28


def reads(num_jobs: int) -> dict[str, str]:
    """Return name -> address of what is read."""
    job, running = (f"/v1/jobs/{job_name(number)}" for number in (num_jobs // 2, num_jobs - 1))
    return {
        "list": "/v1/jobs",
        "list, 200 of one state": "/v1/jobs?state=DONE&limit=200",
        "list, of a model, page behind the 500th": f"/v1/jobs?model=model-1&after={job_name(num_jobs // 2 + 1)}",
        "status": job,
        "status, running": running,
        "front": f"{job}/front",
        "front, running": f"{running}/front",
        "front, CSV": f"{job}/front?format=csv",
        "trials, 200 behind the 500th": f"{job}/trials?after=499",
        "events, all": f"{job}/events?follow=false",
        "events, last 10": f"{job}/events?follow=false&after=995",
        "metrics": "/metrics",
        "ready": "/readyz",
    }


def measured(service: Serving, num_jobs: int) -> dict[str, dict[str, float]]:
    """Return read -> milliseconds at the client (median, most) and milliseconds of CPU in the API's process."""
    found = {}
    with httpx2.Client(base_url=service.url, timeout=60) as client:
        for name, address in reads(num_jobs).items():
            client.get(address).raise_for_status()
            took, before = [], service.cpu_seconds("http_server")
            for _ in range(REPEATS):
                time.sleep(SHARE_SECONDS)  # what was just said is not said again
                began = time.perf_counter()
                size = len(client.get(address).raise_for_status().content)
                took.append(1e3 * (time.perf_counter() - began))
            cpu = 1e3 * (service.cpu_seconds("http_server") - before) / REPEATS
            found[name] = {"median_ms": median(took), "max_ms": max(took), "cpu_ms": cpu, "bytes": size}
            print(f"{name:42} {median(took):8.1f} ms  max {max(took):8.1f}  CPU {cpu:8.1f}  {size:9,} B", flush=True)
    return found


@contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """Give the URL of an empty database."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/tightfit.db"
        return
    programs = find_programs()
    if programs is None:
        raise SystemExit("No PostgreSQL is installed here.")
    with private_postgres(programs) as server:
        yield server.url


def of(kind: str, num_jobs: int, num_trials: int, keep: Path | None) -> dict[str, Any]:
    """Return the figures of a kind of database."""
    with (
        nullcontext(str(keep)) if keep else tempfile.TemporaryDirectory() as folder,
        database(kind, Path(folder)) as url,
    ):
        store = SqlStore(url)
        if not store.list_overviews():
            began = time.perf_counter()
            fill(store, num_jobs, num_trials, NUM_MODULES)
            print(f"{kind}: filled in {time.perf_counter() - began:.0f} s", flush=True)
        store.close()
        home = Path(folder, "home")
        environment = {"TIGHTFIT_DATABASE_URL": url, "TIGHTFIT_HOME": str(home), "MLFLOW_TRACKING_URI": "file:///none"}
        with serving("--controllers", "0", **environment) as service:
            return measured(service, num_jobs)


def main() -> None:
    """Fill, read, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgres"])
    parser.add_argument("--keep", type=Path, help="an SQLite database's folder, filled where it is empty, and kept")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found = {kind: of(kind, asked.jobs, asked.trials, asked.keep) for kind in asked.databases}
    told = {"jobs": asked.jobs, "trials": asked.trials, "cpus": os.cpu_count(), "reads": found}
    asked.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
