"""What `tightfit status` takes on a home of many jobs, as JSON: `python -m benchmarks.status_cost`.

Each job has trials, a front, and facts of the size that a search leaves; the CPU time is that behind the imports.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import insert

from space.level import Level
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import DensePoint, FrontDocument, FrontPoint, SearchCost
from space.spec import make_spec
from storage.job_facts import JobFacts
from storage.job_summary import Recommended, Summary
from storage.migrations.tables import TrialRow
from storage.records import JobState, Trial, TrialState
from storage.sql.sql_rows import trial_values
from storage.sql.sql_store import SqlStore
from tightfit.cli.overviews import show_overviews
from tightfit.jobs.job_status import JobStatus, overview_json

PLAN = Plan.of({f"model.layers.{index}.mlp.up_proj": Level(4, 64) for index in range(8)})
MEASURED = Measurement(0.02, 9.0, tuple(0.02 for _ in range(32)), 32 * 255, 8160.0, 1.0)
POINT = FrontPoint("p0", 0, 3_000_000, 3.25, 0.02, (0.019, 0.021), 9.0, recommended=True)
FACTS = {"model": {f"module {index}": {f"b{bits}-g64": 0.5**bits for bits in range(2, 9)} for index in range(400)}}
REPEATS = 5


def fill(store: SqlStore, num_jobs: int, num_trials: int) -> None:
    """Write jobs as finished searches leave them."""
    points = tuple(replace(POINT, point=f"p{index}", size_bytes=POINT.size_bytes + index) for index in range(30))
    cost = SearchCost(1e6, num_trials, 600.0)
    for number in range(num_jobs):
        job_id = f"j{number:06x}"
        store.create_job(job_id, make_spec(model="org/model", budget="3.25bpw", calibration="text.jsonl"))
        document = FrontDocument(
            *(job_id, "DONE", "org/model", "packed", 3_000_000, 0, DensePoint(10**7, 8.0), (), points, 0.8),
            reference_point=(1e7, 0.5),
            cost=cost,
        )
        store.set_job_state(job_id, JobState.RUNNING)
        store.update_job(
            job_id, phase="judging 30 plans on held-out text", facts=JobFacts.from_json(FACTS), document=document
        )
        store.put_summary(
            job_id,
            Summary(
                datetime.now(UTC), {"COMPLETE": num_trials}, 600.0, 1.0, 0.0, 0.8, 0.02,
                measured_on="held_out", num_points=30, recommended=Recommended("p0", 3_000_000, 0.02),
            ),
        )  # fmt: skip
        store.set_job_state(job_id, JobState.DONE)
        values = trial_values(Trial(job_id, 0, PLAN, "knapsack", TrialState.COMPLETE, 3_000_000, MEASURED))
        with store._session(write=True) as session:  # noqa: SLF001 (as many at once as no search writes)
            session.execute(insert(TrialRow), [{**values, "number": index} for index in range(num_trials)])


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
