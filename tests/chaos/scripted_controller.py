"""A controller process on a real database whose models are scripted: `python -m tests.chaos.scripted_controller`.

Arguments: database URL, cache folder, file that gets one line per job run, seconds of a lease, seconds per evaluation,
and "scripted" for whole searches or "tiny" for jobs of three trials that nobody measures. CLOCK_SHIFT_SECONDS in the
environment sets this process's clock.
"""

import logging
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import datetime, tzinfo
from pathlib import Path

from search.controller import Controller
from search.job import job_steps
from storage.leases.lease import Silence, keeping
from storage.leases.outage_retry import held_store
from storage.open_store import open_store
from storage.records import Job, JobState, Lease, TrialState
from storage.sql import sql_jobs
from storage.store import Store
from tests.search.house import Notes
from tests.search.scripted import ScriptedExecutor, prepared
from tests.storage.values import MEASURED, trial
from tightfit.work import Server


def run_tiny(store: Store, lease: Lease, lease_seconds: float) -> Job:
    """Do what a controller does with a job, search aside: hold it, record trials, end it."""
    held = held_store(store, lease)
    with keeping(store, lease, lease_seconds):
        held.create_trials([replace(trial(number), job_id=lease.job_id) for number in range(3)])
        for number in range(3):
            held.finish_trial(lease.job_id, number, TrialState.COMPLETE, MEASURED)
        return held.set_job_state(lease.job_id, JobState.DONE)


def shift_clock(seconds: float) -> None:
    """Set the clock of this process: the one of the standard library, and of records."""
    real = time.time

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Shifted":
            return cls.fromtimestamp(real() + seconds, tz)

    for module, name, value in ((time, "time", lambda: real() + seconds), (sql_jobs, "datetime", Shifted)):
        setattr(module, name, value)


def main(url: str, cache_folder: str, runs: str, lease_seconds: float, seconds: float, kind: str) -> None:
    """Serve the store until no job is left."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    setattr(job_steps, "prepare", prepared)  # noqa: B010 (a constant for mypy)
    setattr(job_steps, "model_digest", lambda _: "m" * 64)  # noqa: B010
    shift_clock(float(os.environ.get("CLOCK_SHIFT_SECONDS", "0")))
    store = open_store(url)

    def run_job(lease: Lease) -> Job:
        with Path(runs).open("a", encoding="utf-8") as file:
            file.write(f"{lease.job_id} {lease.token} {os.getpid()}\n")
        if kind == "tiny":
            return run_tiny(store, lease, lease_seconds)
        executor = ScriptedExecutor(on_evaluate=lambda _: time.sleep(seconds), num_workers=2)
        return Controller(store, lambda *_: executor, Path(cache_folder), Notes(), lease_seconds).run_held(lease)

    Server(store, run_job, Silence(lease_seconds), poll_seconds=0.05).serve(until_idle=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]), float(sys.argv[5]), sys.argv[6])
