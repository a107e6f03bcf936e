"""Exports as people see them: a table and JSON, waiting, stopped, cancelled and done."""

from dataclasses import replace
from pathlib import Path

import pytest

from storage.job_facts import JobFacts
from storage.leases.lease import holder_name, host_name
from storage.open_store import open_store
from storage.point_tasks import TaskState
from storage.store import Store
from tests.cli.conftest import Cli
from tests.storage.sample_job import SampleJob
from tests.storage.values import ASKED
from tightfit.config import load_settings


@pytest.fixture
def store(done: SampleJob) -> Store:
    """Give the store of a home with a finished job."""
    return open_store(load_settings().database_url)


def test_exports_are_shown_newest_first(cli: Cli, done: SampleJob, store: Store) -> None:
    """In a table, in JSON, and with the status of their job; one whose process has gone says what to do."""
    assert cli("exports").out == "No point was exported yet; `tightfit export JOB --out DIR` writes one.\n"
    asked, job_id = replace(ASKED, job_id=done.job.job_id), done.job.job_id
    store.create_task("t00000a", asked, holder_name())
    store.update_task("t00000a", progress="refit: block 3 of 8", share_done=0.25)
    host, pid, start, machine = holder_name().rsplit(":", 3)
    gone = f"{host}:{pid}:{int(start) + 1}:{machine}"
    store.create_task("t00000b", replace(asked, point="p2", out="/other"), gone)
    store.create_task("t00000c", asked, "a")
    store.set_task_state("t00000c", TaskState.FAILED, "the disk\nis full")
    found = cli("exports")
    lines = [line.split() for line in found.out.splitlines()]
    assert lines == [
        ["export", "state", "job", "point", "done", "to"],
        ["t00000c", "FAILED", job_id, "p1", "/out", "the", "disk", "is", "full"],
        "t00000b RUNNING J p2 /other stopped: `tightfit resume t00000b` goes on".replace("J", job_id).split(),
        ["t00000a", "RUNNING", job_id, "p1", "25%", "/out", "refit:", "block", "3", "of", "8"],
    ]
    assert found.out in cli("status", job_id).out
    told = cli("exports", job_id, "--json").json
    assert [t["task"] for t in told] == ["t00000c", "t00000b", "t00000a"]
    assert [t["is_stopped"] for t in told] == [False, True, False]
    assert (told[0]["error"], told[2]["share_done"], told[2]["user"]) == ("the disk\nis full", 0.25, "ann")
    assert cli("status", job_id, "--json").json["exports"] == told == cli("status", "--json").json[0]["exports"]


def test_an_export_is_queued_cancelled_and_resumed(cli: Cli, done: SampleJob, store: Store, tmp_path: Path) -> None:
    """By its id, as a job is; its folder is not made before it runs."""
    out = tmp_path / "new"
    facts = {"tokens": TOKENS, "cache_folder": "/cache/m", "model_digest": "m" * 64}
    store.update_job(done.job.job_id, facts=JobFacts.from_json(facts | {"inventory": done.inventory.to_json()}))
    queued = cli("export", done.job.job_id, "--out", str(out), "--queue")
    assert (queued.exit_code, queued.err) == (0, "")
    task = store.list_tasks()[0]
    best = done.document.recommended
    assert best is not None
    assert queued.out == (
        f"Export {task.task_id} of {best.point} is queued for `tightfit work` on this host; see `tightfit exports`.\n"
    )
    assert (task.out, task.host, task.trial) == (str(out), host_name(), best.trial)
    assert cli("cancel", task.task_id).out == f"Export {task.task_id} is cancelled.\n"
    assert cli("cancel", task.task_id).out == f"Export {task.task_id} is already cancelled.\n"
    assert "--queue leaves it to others" in cli("resume", task.task_id, "--detach").err
    assert cli("resume", task.task_id, "--queue").out == queued.out
    assert store.get_task(task.task_id).state is TaskState.QUEUED
    store.claim_task(holder_name(), host_name(), task.task_id)
    assert cli("cancel", task.task_id).out == f"Export {task.task_id}: stopping.\n"
    store.set_task_state(task.task_id, TaskState.DONE)
    assert cli("resume", task.task_id).out == f"Export {task.task_id} is done already: {out}\n"
    assert not out.exists()
    assert "no task 't999999'; the newest are" in cli("resume", "t999999").err


TOKENS = {"path": "/cache/m/tokens.safetensors", "note": "text", "digests": ["a" * 64, "b" * 64, "c" * 64]}
