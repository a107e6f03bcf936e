"""What `tightfit status` takes on a home of many jobs, as JSON: `python -m benchmarks.service.status_cost`.

Each job has trials, a front, and facts of the size that a search leaves; the CPU time is that behind the imports.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from pathlib import Path

from benchmarks.service.filled_store import fill
from storage.sql.sql_store import SqlStore
from tightfit.cli.overviews import show_overviews
from tightfit.jobs.job_status import JobStatus, overview_json

REPEATS = 5


def seconds_of(store: SqlStore, home: Path) -> dict[str, float]:
    """Return the CPU seconds of the table and of the JSON of all jobs, the best of some tries."""
    found = {"table": 1e9, "json": 1e9}
    for _ in range(REPEATS):
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            log = home / "logs"
            jobs = [JobStatus.of(job, log / f"{job.job_id}.log") for job in store.list_overviews()]
            show_overviews(jobs, str(home))
        found["table"] = min(found["table"], time.process_time() - began)
        began = time.process_time()
        json.dumps([overview_json(job, home / "logs" / f"{job.job_id}.log") for job in store.list_overviews()])
        found["json"] = min(found["json"], time.process_time() - began)
    return found


def main() -> None:
    """Fill a database, look at it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=1000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store = SqlStore(f"sqlite:///{home}/tightfit.db")
        fill(store, asked.jobs, asked.trials)
        size = (home / "tightfit.db").stat().st_size
        print(json.dumps({**vars(asked), "database_bytes": size, "cpu_seconds": seconds_of(store, home)}, indent=2))
        store.close()


if __name__ == "__main__":
    main()
