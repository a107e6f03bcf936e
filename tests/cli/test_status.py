"""How far jobs are, as tables, as JSON and watched; and their logs."""

import re
from pathlib import Path
from threading import Thread
from time import sleep

import pytest

from storage.job_summary import Summary
from storage.leases.lease import holder_name
from storage.open_store import open_store
from storage.records import JobState
from tests.cli.conftest import Cli, Done
from tests.end_to_end.jobs import Quiet
from tests.storage.sample_job import SampleJob
from tightfit.config import load_settings
from tightfit.listen import LoggingListener


def test_status(cli: Cli, done: SampleJob) -> None:
    """One job is an object, all jobs are a list; how far it is, what it found, where its log would be."""
    (only,) = cli("status", "--json").json
    assert only == cli("status", done.job.job_id, "--json").json
    assert (only["job"], only["state"], only["error"]) == (done.job.job_id, "DONE", None)
    assert sum(only["trials"].values()) == len(done.trials)
    best, price = done.document.recommended, done.document.marginal_price
    assert best is not None
    assert price is not None
    found = {"point": best.point, "size_bytes": best.size_bytes, "kl_divergence": best.kl_divergence}
    assert (only["recommended"], only["best_kl_divergence"]) == (found, best.kl_divergence)
    assert only["marginal_price"] == {
        "step_bytes": price.step_bytes,
        "kl_divergence_drop": price.kl_divergence_drop,
    }
    assert (only["hypervolume"], only["elapsed_seconds"]) == (done.document.hypervolume, 671.5)
    assert (only["share_done"], only["seconds_left"], only["log"]) == (1.0, None, None)
    told = cli("status", done.job.job_id).out
    for part in ("100%, 11 min", f"{best.point} of {len(done.document.front)} points", str(price), "on held-out text"):
        assert part in told


@pytest.mark.parametrize("named", [True, False])
def test_a_job_is_watched_to_its_end(cli: Cli, done: SampleJob, named: bool) -> None:  # noqa: FBT001
    """The newest where none is named; its steps go to stderr."""
    watched = cli("status", *([done.job.job_id] if named else []), "--watch", "--json")
    assert watched.json == cli("status", done.job.job_id, "--json").json
    assert "60 trials" in watched.err
    assert "hypervolume 0." in watched.err
    assert "best KL under the budget 0." in watched.err
    assert f"on held-out text: {done.document.marginal_price}" in watched.err


def test_a_running_job_tells_what_is_left(cli: Cli, done: SampleJob) -> None:
    """As its controller said last; where that is gone, what to do."""
    store = open_store(load_settings().database_url)
    store.create_job("young-wren-1", done.job.spec)
    assert store.claim_job(holder_name(), "young-wren-1")
    store.update_job("young-wren-1", phase="measuring 7 plans")
    store.put_summary("young-wren-1", Summary(done.job.created_at, {"COMPLETE": 12}, 754.0, 0.25, 7384.0))
    row = next(line for line in cli("status").out.splitlines() if line.startswith("young-wren-1"))
    assert re.search(r"RUNNING +\S+ +5MiB +12 +25% +2 h 3 min +measuring 7 plans$", row)
    found = cli("status", "young-wren-1", "--json").json
    assert (found["share_done"], found["seconds_left"], found["elapsed_seconds"]) == (0.25, 7384.0, 754.0)
    told = cli("status", "young-wren-1").out
    assert "25%, about 2 h 3 min left, 13 min so far" in told
    assert "is gone" not in told
    store.set_job_state("young-wren-1", JobState.QUEUED)
    host, pid, start, machine = holder_name().rsplit(":", 3)
    assert store.claim_job(f"{host}:{pid}:{int(start) + 1}:{machine}", "young-wren-1")
    assert "is gone; `tightfit resume young-wren-1` goes on" in cli("status", "young-wren-1").out
    row = next(line for line in cli("status").out.splitlines() if line.startswith("young-wren-1"))
    assert row.endswith("stopped: `tightfit resume young-wren-1` goes on")
    assert [found["is_stopped"] for found in cli("status", "--json").json] == [True, False]


def test_logs(cli: Cli, done: SampleJob, home: Path) -> None:
    """As they are, of the newest job where none is named; one that is not there is named."""
    log = home / "logs" / f"{done.job.job_id}.log"
    none = cli("logs")
    assert (none.exit_code, none.out) == (2, "")
    assert f"is DONE and has no log in this home ({log})" in none.err
    log.parent.mkdir()
    log.write_bytes(b"[ 1.0 s] reading [text]\nhalf a character: \xc3\n")
    for options in ([], [done.job.job_id], ["--follow"], [done.job.job_id, "-f"]):
        assert cli("logs", *options).out == "[ 1.0 s] reading [text]\nhalf a character: \ufffd\n"
    assert cli("status", done.job.job_id, "--json").json["log"] == str(log)


def test_a_log_is_followed(cli: Cli, done: SampleJob, home: Path) -> None:
    """From before its first line to the end of its job."""
    store = open_store(load_settings().database_url)
    store.create_job("young-wren-1", done.job.spec)
    lease = store.claim_job(holder_name(), "young-wren-1")
    assert lease is not None
    found: list[Done] = []
    follower = Thread(target=lambda: found.append(cli("logs", "young-wren-1", "--follow")))
    follower.start()
    sleep(0.3)
    listener = LoggingListener(Quiet(), home / "logs" / "young-wren-1.log")
    for text in ("first", "second"):
        listener.phase(store.get_job("young-wren-1"), text)
        sleep(0.3)
    listener.close("The job is DONE.")
    store.holding(lease).set_job_state("young-wren-1", JobState.DONE)
    follower.join(timeout=60)
    lines = found[0].out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines[1:]] == ["first", "second", "The job is DONE."]
    assert re.match(r"\d{4}-\d\d-\d\d .* UTC, process \d+ on ", lines[0])


def test_a_log_that_cannot_be_written_stops_nobody(home: Path, done: SampleJob) -> None:
    """A full disk, a folder that is a file: the job goes on, and its other listener hears all."""
    (home / "logs").write_text("a file")
    listener = LoggingListener(quiet := Quiet(), home / "logs" / "one.log")
    listener.phase(done.job, "first")
    listener.progress(done.job, 1, {})
    listener.close("end")
    assert quiet.phases == ["first"]
