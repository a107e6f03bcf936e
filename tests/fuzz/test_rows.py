"""Rows of the database that somebody edited by hand: one sentence that names the job and says what to do."""

import json
import os
import random
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from space.spec import JobSpec
from storage.job_facts import JobFacts
from storage.open_store import open_store
from storage.records import JobState
from storage.sql.sqlite_urls import sqlite_url
from tests.cli.conftest import Cli, cli, home
from tests.fuzz.mutations import as_text, mutate_json, mutate_text, odd_value
from tests.storage.sample_job import sample_job, sample_losses

__all__ = ["cli", "home"]
NUM_INPUTS, NUM_PARTS = int(os.environ.get("TIGHTFIT_FUZZ_ROWS", "200")), 4
JOB = "calm-otter-7"
COMMANDS = (
    *(["status"], ["status", JOB], ["status", JOB, "--json"], ["gc", "--dry-run"], ["resume", JOB, "--queue"]),
    *(["front", JOB], ["front", JOB, "--json"], ["front", JOB, "--csv"], ["front", JOB, "--json", "--explain"]),
    *(["front", JOB, "--html", "report.html"], ["explain", JOB], ["explain", JOB, "--point", "p2"], ["cancel", JOB]),
    *(["export", JOB, "--out", "out"], ["export", JOB, "--out", "out", "--budget", "5MB"], ["pause", JOB]),
)
COLUMNS = {
    "jobs": ("spec", "facts", "document", "state", "created_at", "finished_at", "phase", "error", "token", "holder"),
    "trials": ("plan", "measurement", "held_out", "sampler_state", "state", "size_bytes", "origin", "number", "reason"),
    "summaries": ("value",),
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a database with one finished job whose model is the bundled one in name only."""
    path = tmp_path_factory.mktemp("rows") / "tightfit.db"
    sample = sample_job(JOB, model="bundled")
    store = open_store(sqlite_url(path))
    store.create_job(JOB, JobSpec(**sample.job.spec.model_dump()))
    store.create_trials(sample.trials)
    store.set_job_state(JOB, JobState.RUNNING)
    facts = {
        "model": {"losses": sample_losses(sample)},
        "inventory": sample.inventory.to_json(),
        "tokens": {"path": "/nowhere/tokens.safetensors", "note": "sampled", "digests": ["a" * 64, "b" * 64, "c" * 64]},
        "cache_folder": "/nowhere/cache",
        "dense_perplexity": 20.1,
        "budget_bytes": 5 * 2**20,
        "smallest_bytes": 2**20,
        "device": "cpu",
    }
    store.update_job(JOB, document=sample.document, facts=JobFacts.from_json({**facts, "model_digest": "d" * 64}))
    store.set_job_state(JOB, JobState.DONE)
    store.close()
    return path


def _damage(path: Path, rng: random.Random) -> str:
    """Change one value of one row; return what was changed."""
    table = rng.choice([*COLUMNS, "jobs"])
    column = rng.choice(COLUMNS[table])
    with closing(sqlite3.connect(path)) as connection, connection:
        rows = connection.execute(f"SELECT rowid, {column} FROM {table}").fetchall()
        if not rows:
            table, column = "jobs", "document"
            rows = connection.execute("SELECT rowid, document FROM jobs").fetchall()
        row, old = rng.choice(rows)
        new = _changed(old, rng)
        connection.execute("PRAGMA ignore_check_constraints=ON")
        try:
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (new, row))
        except sqlite3.IntegrityError:
            return "nothing"
    return f"{table}.{column} of row {row}: {str(new)[:300]!r}"


def _changed(old: Any, rng: random.Random) -> Any:
    if isinstance(old, str) and old[:1] in ("{", "["):
        return as_text(mutate_json(json.loads(old), rng, rng.randint(1, 2)), rng).decode(errors="replace")
    if isinstance(old, str) and rng.random() < 0.7:
        return mutate_text(old, rng).encode(errors="replace").decode()
    new = odd_value(rng)
    return new if isinstance(new, int | float | None) and not abs(new or 0) >= 2**63 else json.dumps(new)


@pytest.mark.parametrize("part", range(NUM_PARTS))
def test_rows_that_were_edited(
    cli: Cli, home: Path, tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    """Whatever command reads them: it works, or says in one sentence which job cannot be read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    home.mkdir()
    wrong = []
    for seed in range(part, NUM_INPUTS, NUM_PARTS):
        rng = random.Random(seed)
        for stale in home.glob("tightfit.db*"):
            stale.unlink()
        shutil.copy(finished, home / "tightfit.db")
        what = _damage(home / "tightfit.db", rng)
        command = rng.choice(COMMANDS)
        done = cli(*command)
        told = done.err.splitlines()
        is_told = not done.exit_code or (len(told) == 1 and told[0].startswith("tightfit: "))
        if done.exit_code not in (0, 2, 3, 4) or not is_told or "does not know" in done.err or "Traceback" in done.err:
            wrong.append(f"seed {seed}: {what}: {' '.join(command)}: {done.exit_code}: {done.err[:400]}")
    assert not wrong, "\n".join(wrong)
