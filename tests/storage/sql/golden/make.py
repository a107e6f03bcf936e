"""Make the golden database of the newest version: `python -m tests.storage.sql.golden.make`, once per new version.

The files of older versions were made by the programs of their time and are never made again.
"""

import sqlite3
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from space.level import Level
from storage.job_facts import JobFacts
from storage.migrations.upgrade import HEAD
from storage.open_store import open_store
from storage.people import Token, Webhook
from storage.records import Asking, JobState, Known, TrialState
from storage.sampler_state import SamplerState
from tests.storage.values import ASKED, DOCUMENT, MEASURED, PLAN, SUMMARY, spec, trial

OTHER = PLAN.replace({PLAN.levels[0][0]: Level(2, 64)})
FACTS = JobFacts(model_digest="m" * 64, wall_seconds=60.5)
TRIALS = [
    trial(0, TrialState.COMPLETE, origin="uniform", measurement=MEASURED, held_out=MEASURED),
    trial(
        1,
        TrialState.COMPLETE,
        plan=OTHER,
        origin="sensitivity",
        measurement=replace(MEASURED, kl_divergence=0.5),
        sampler_state=SamplerState(4, PLAN.to_json(), batch=1),
    ),
    trial(2, TrialState.FAILED, reason="worker died: out of memory"),
    trial(3),
    trial(4, TrialState.STOPPED, reason="time is over"),
]
TASK_PROGRESS = ("refit: block 3 of 8", 0.25)
TOKEN = Token("0a1b2c3d", "ann", "submit", "d" * 64, datetime(2026, 11, 26, 12, tzinfo=UTC))
HOOK = Webhook("w0a1b2c3d", "ann", "https://a.example/hook", "s", TOKEN.created_at)
DONE_SUMMARY = replace(SUMMARY, share_done=1.0, seconds_left=0.0, measured_on="held_out", marginal_price=None)


def make(path: Path) -> None:
    """Write a database with a job that is DONE, and two that run, one of them held and asked to pause; two exports."""
    store = open_store(f"sqlite:///{path}")
    for job_id in ("one", "two", "three"):
        store.create_job(job_id, spec(seed=3))
    for state in (JobState.RUNNING, JobState.DONE):
        store.set_job_state("one", state)
    store.set_job_state("two", JobState.RUNNING)
    store.update_job("one", phase="search ended", facts=FACTS, document=DOCUMENT)
    store.create_trials(TRIALS)
    store.put_summary("one", DONE_SUMMARY)
    store.put_measurement(Known(PLAN, "e" * 64, MEASURED, Asking("uniform")))
    store.put_measurement(Known(OTHER, "e" * 64, MEASURED, Asking("sensitivity", PLAN)))
    lease = store.claim_job("host:7:70:abc", "three")
    assert lease is not None
    store.renew(lease)
    store.request_pause("three")
    store.create_task("t1", ASKED)
    store.claim_task("host:7:70:abc", "host", "t1")
    store.update_task("t1", progress=TASK_PROGRESS[0], share_done=TASK_PROGRESS[1])
    store.create_task("t2", replace(ASKED, host="host"))
    store.create_token(TOKEN)
    store.create_webhook(HOOK)
    store.describe_job("three", "ours", "a note")
    store.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
        connection.execute("VACUUM")


if __name__ == "__main__":
    make(Path(__file__).with_name(f"{HEAD}.db"))
