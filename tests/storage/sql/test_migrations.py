"""Opening a database brings its tables up to date, once, quietly, and only where they are ours."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import copytree
from time import monotonic, sleep

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from space.errors import StoreError
from space.level import Level
from storage.migrations.upgrade import HEAD, VERSION_TABLE, alembic_config, stored_version, upgrade
from storage.open_store import open_store
from storage.records import Asking, Known, TrialState
from storage.sampler_state import SamplerState
from tests.storage.values import MEASURED, PLAN, spec, trial

ROOT = Path(__file__).parents[3]
OPEN = """
import sys
from storage.open_store import open_store
import alembic.command, storage.sql.sql_store
print("ready", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1])
print(len(store.list_jobs()))
store.close()
"""


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """Give an engine on the database, beside the store."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


def set_version(engine: Engine, version: str) -> None:
    """Change a database's revision."""
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = :version"), {"version": version})


def check(connection: Connection) -> None:
    """Fail where the database and the tables of the program differ."""
    command.check(alembic_config(connection))


def test_migrated_database_has_the_tables_of_the_program(database_url: str, engine: Engine) -> None:
    """`alembic check` finds no difference, and finds one that was made."""
    open_store(database_url).close()
    with engine.connect() as connection:
        check(connection)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE trials DROP COLUMN origin"))
    with engine.connect() as connection, pytest.raises(Exception, match="origin"):
        check(connection)


def test_head_is_the_newest_file(database_url: str, engine: Engine) -> None:
    """The constant of the program follows the folder of migrations, and a new database is there."""
    open_store(database_url).close()
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(alembic_config(connection))
        assert [HEAD] == script.get_heads() == [stored_version(connection)]


def test_downgrade_takes_every_table_away(database_url: str, engine: Engine) -> None:
    """The way back leaves nothing but the table of versions, and the way up works again."""
    open_store(database_url).close()
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "base")
    assert inspect(engine).get_table_names() == [VERSION_TABLE]
    open_store(database_url).close()
    with engine.connect() as connection:
        check(connection)


def test_first_version_learns_the_plans_of_its_measurements(database_url: str, engine: Engine) -> None:
    """A database of 0001 keeps all records; plans and askers come from its trials, and unknown plans are left out."""
    base = PLAN.replace({PLAN.levels[0][0]: Level(2, 64)})
    other = PLAN.replace({PLAN.levels[0][0]: Level(3, 64)})
    store = open_store(database_url)
    job = store.create_job("one", spec())
    trials = [
        trial(0, TrialState.COMPLETE, origin="sensitivity", sampler_state=SamplerState(base=base.to_json())),
        trial(1, TrialState.COMPLETE, origin="refine", plan=other, sampler_state=SamplerState()),
        trial(2, TrialState.COMPLETE, origin="known", plan=other),
    ]
    store.create_trials(trials)
    for plan in (PLAN, other, base):
        store.put_measurement(Known(plan, "e" * 64, MEASURED, Asking("wrong")))
    store.close()
    with engine.begin() as connection:
        command.downgrade(alembic_config(connection), "0001")
    store = open_store(database_url)
    assert (store.get_job("one"), store.list_trials("one")) == (job, trials)
    assert list(store.find_measurements([(base, "e" * 64)])) == [MEASURED]
    known = [
        Known(PLAN, "e" * 64, MEASURED, Asking("sensitivity", base)),
        Known(other, "e" * 64, MEASURED, Asking("refine")),
    ]
    assert list(store.list_measurements(["e" * 64])) == sorted(known, key=lambda k: k.plan.digest)
    store.close()


def test_newer_database_is_refused_unchanged(database_url: str, engine: Engine) -> None:
    """An older program says so in one sentence and touches nothing."""
    open_store(database_url).close()
    set_version(engine, "9999")
    with pytest.raises(StoreError, match=r"newer tightfit \(its tables are at 9999.*: update tightfit") as caught:
        open_store(database_url)
    assert str(caught.value).count(". ") == 0
    with engine.connect() as connection:
        assert stored_version(connection) == "9999"


def test_database_of_another_program_is_refused_unchanged(database_url: str, engine: Engine) -> None:
    """Our tables are not put between those of a program that has a table `trials` too."""
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE trials (trial_id INTEGER)"))
    with pytest.raises(StoreError, match=r"tables of another program \(trials\): name a database of its own"):
        open_store(database_url)
    assert inspect(engine).get_table_names() == ["trials"]


def test_failed_migration_leaves_nothing(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration happens whole or not at all, also on SQLite."""
    with monkeypatch.context() as patched:
        patched.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            open_store(database_url)
    assert inspect(engine).get_table_names() == []
    open_store(database_url).close()


def test_migration_prints_and_logs_nothing(
    database_url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """The first start of a user shows no line of alembic, whatever the program's log shows."""
    with caplog.at_level(logging.INFO):
        open_store(database_url).close()
    assert tuple(capfd.readouterr()) == ("", "")
    assert [record for record in caplog.records if record.name.startswith("alembic")] == []


def test_processes_may_open_a_new_database_at_once(database_url: str) -> None:
    """Whoever comes first makes the tables; all of them work."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", OPEN, database_url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert [process.communicate(timeout=120)[0] for process in processes] == ["0\n"] * 3
    store = open_store(database_url)
    assert store.create_job("one", spec()).job_id == "one"
    store.close()


def test_second_program_waits_for_the_first(postgres_url: str) -> None:
    """PostgreSQL would let two make the same table at once and fail one of them; the lock of ours makes it wait."""
    engine = create_engine(postgres_url)
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    with ThreadPoolExecutor(1) as pool:
        with engine.begin() as first:
            upgrade(first, "first")
            second = pool.submit(open_store, postgres_url)
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watcher:
                end = monotonic() + 60
                while watcher.scalar(waiting) == 0:
                    assert monotonic() < end
                    sleep(0.05)
        second.result(timeout=60).close()
    engine.dispose()


def test_program_may_live_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A percent sign in the path of the installed program is not a placeholder."""
    folder = tmp_path / "100% ours" / "migrations"
    copytree(ROOT / "storage" / "migrations", folder)
    monkeypatch.setattr("storage.migrations.upgrade.__file__", str(folder / "upgrade.py"))
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    assert list(store.list_jobs()) == []
    store.close()
