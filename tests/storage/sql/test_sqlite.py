"""The store in SQLite keeps the contract, and its errors say what, where and what to do next."""

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Timer

import pytest
from sqlalchemy import event

from space.errors import StoreError
from storage.open_store import open_store
from storage.sql.sql_store import SqlStore
from storage.store import Store
from tests.storage.store_contract import StoreContract
from tests.storage.values import MEASURED, SUMMARY, spec, trial

ROOT = Path(__file__).parents[3]


class TestSqliteStore(StoreContract):
    """`sqlite:///`."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        """Give an empty store."""
        store = open_store(f"sqlite:///{tmp_path}/store.db")
        yield store
        store.close()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """Give the path of a database with one job and one trial."""
    path = tmp_path / "new" / "folders" / "100% ours.db"
    store = open_store(f"sqlite:///{path}")
    store.create_job("one", spec())
    store.create_trials([trial(0, measurement=MEASURED)])
    store.close()
    return path


def change(database: Path, statement: str) -> None:
    """Change a database behind the store's back."""
    connection = sqlite3.connect(database)
    connection.execute(statement)
    connection.commit()
    connection.close()


@contextmanager
def statements(store: Store) -> Iterator[list[str]]:
    """Give what is asked of the database meanwhile."""
    asked: list[str] = []
    assert isinstance(store, SqlStore)
    engine = store._engine

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield asked
    event.remove(engine, "before_cursor_execute", note)
    asked[:] = [statement for statement in asked if not statement.startswith("BEGIN")]


def python(code: str, *arguments: str) -> str:
    """Return what a new interpreter prints; warnings are errors."""
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True).stdout.strip()


def test_records_outlive_the_store(database: Path) -> None:
    """A file in folders that did not exist is found again by the next store."""
    store = open_store(f"sqlite:///{database}")
    assert store.list_trials("one") == [trial(0, measurement=MEASURED)]
    store.close()


def test_database_is_in_wal_mode(database: Path) -> None:
    """Readers and the writer do not wait for each other."""
    connection = sqlite3.connect(database)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_reader_does_not_wait_for_a_writer(database: Path) -> None:
    """While another program holds the write lock, reading goes on."""
    store = open_store(f"sqlite:///{database}")
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    assert store.get_job("one").job_id == "one"
    connection.close()
    store.close()


def test_locked_database_says_so(database: Path) -> None:
    """A writer that never ends becomes an error once the time of the URL is over."""
    store = open_store(f"sqlite:///{database}?timeout=0.1")
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked.*another program keeps it locked"):
        store.update_job("one", phase="x")
    connection.close()
    store.close()


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_new_database_that_another_one_is_filling_is_waited_for(tmp_path: Path, begin: str) -> None:
    """Its journal is changed once the other is through: SQLite itself would not wait for that."""
    path = tmp_path / "new.db"
    first = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    first.execute(begin)
    first.execute("CREATE TABLE other (value)")
    timer = Timer(0.4, lambda: first.execute("COMMIT"))
    timer.start()
    store = open_store(f"sqlite:///{path}")
    assert not timer.is_alive()
    first.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_new_database_that_stays_locked_says_so(tmp_path: Path) -> None:
    """Once the time of the URL is over."""
    connection = sqlite3.connect(tmp_path / "new.db", isolation_level=None)
    connection.execute("CREATE TABLE other (value)")
    connection.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked.*another program keeps it locked"):
        open_store(f"sqlite:///{tmp_path}/new.db?timeout=0.2")
    connection.close()


@pytest.mark.parametrize("num_jobs", [1, 40])
def test_lists_of_jobs_are_one_statement(tmp_path: Path, num_jobs: int) -> None:
    """However many there are, and it reads neither trials nor what is large of a job."""
    store = open_store(f"sqlite:///{tmp_path}/store.db")
    for number in range(num_jobs):
        store.create_job(f"job{number}", spec())
        store.create_trials([replace(trial(n), job_id=f"job{number}") for n in range(3)])
        store.put_summary(f"job{number}", SUMMARY)
    with statements(store) as asked:
        assert len(store.list_overviews()) == num_jobs
        assert store.overview("job0").summary == SUMMARY
    assert len(asked) == 2
    for statement in asked:
        assert set(re.findall(r"FROM (\w+)|JOIN (\w+)", statement)) == {("jobs", ""), ("", "summaries")}
        assert not re.search(r"facts|document|trials|measurement", statement)
    store.close()


def test_importing_the_door_is_light() -> None:
    """SQLAlchemy is imported for a database only."""
    assert python("import sys, storage.open_store; print('sqlalchemy' in sys.modules)") == "False"


def test_opening_a_current_database_imports_no_alembic(database: Path) -> None:
    """Migrations cost nothing where there is nothing to do."""
    code = "import sys, storage.open_store as o; o.open_store(sys.argv[1]).close(); print('alembic' in sys.modules)"
    assert python(code, f"sqlite:///{database}") == "False"
    assert python(code, f"sqlite:///{database}.new") == "True"


def test_file_of_another_kind_is_refused_unchanged(tmp_path: Path) -> None:
    """A text file is no database, and stays what it is."""
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be used \(file is not a database\): .* name another one"):
        open_store(f"sqlite:///{path}")
    assert path.read_text() == "dear diary\n" * 100


def test_folder_is_no_database(tmp_path: Path) -> None:
    """A folder's name cannot be opened."""
    with pytest.raises(StoreError, match="unable to open database file"):
        open_store(f"sqlite:///{tmp_path}")


def test_parent_that_is_a_file_is_named(tmp_path: Path) -> None:
    """A folder that cannot be made is an error of ours."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"file/sub cannot be made \(Not a directory\): name another place"):
        open_store(f"sqlite:///{tmp_path}/file/sub/store.db")


@pytest.mark.usefixtures("database")  # opened before, so that nothing is left to import
def test_read_only_folder_is_refused() -> None:
    """A new database needs a folder that can be written."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o555)
        user = os.geteuid()
        os.seteuid(user or 65534)  # root may write everywhere
        try:
            with pytest.raises(StoreError, match="check that its folder exists and can be written"):
                open_store(f"sqlite:///{folder}/store.db")
        finally:
            os.seteuid(user)


def test_read_only_database_can_be_read(database: Path) -> None:
    """Reading goes on where writing is refused."""
    store = open_store(f"sqlite:///file:{database}?mode=ro&uri=true")
    assert store.get_job("one").job_id == "one"
    with pytest.raises(StoreError, match=r"readonly database\): check that the file and its folder can be written"):
        store.update_job("one", phase="x")
    store.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///", "sqlite:///:memory:"])
def test_url_without_file_is_refused(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own store in memory would be another one in every thread; no file of that name is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"names no (file|store): .*memory:"):
        open_store(url)
    assert list(tmp_path.iterdir()) == []


def test_unknown_scheme_shows_no_password() -> None:
    """The error lists what can be written, and no part of the URL that may be secret."""
    with pytest.raises(StoreError, match=r"mysql:\.\.\. names no store: write sqlite:///") as caught:
        open_store("mysql://me:secret@host/jobs")
    assert "secret" not in str(caught.value)


def test_missing_table_is_an_error_of_ours(database: Path) -> None:
    """Damage behind the store's back is told without statement and values."""
    change(database, "DROP TABLE measurements")
    store = open_store(f"sqlite:///{database}")
    with pytest.raises(StoreError, match=r"100% ours\.db cannot be used \(no such table: measurements\)") as caught:
        store.find_measurements([(trial(0).plan, "secret")])
    assert "SELECT" not in str(caught.value)
    store.close()


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE jobs SET spec = replace(spec, 'budget', 'wish')", "Job one cannot be read"),
        ("UPDATE jobs SET spec = '{'", "Job one cannot be read"),
        ("UPDATE jobs SET spec = '[1]'", "Job one cannot be read"),
        ('UPDATE jobs SET spec = replace(spec, \'"pins": []\', \'"pins": [["x", "b99"]]\')', "Job one .*bits=99"),
        ("UPDATE jobs SET state = 'ASLEEP'", "Job one .*state: .*ASLEEP"),
        ("UPDATE jobs SET created_at = 'yesterday'", "Job one .*created_at: .*yesterday"),
        ("UPDATE jobs SET created_at = 7", "Job one .*created_at"),
        ("UPDATE jobs SET phase = x'ff'", "Job one .*phase is"),
        ("UPDATE jobs SET token = 'often'", "Job one .*token is 'often'"),
        ("UPDATE jobs SET facts = '[]'", "Job one .*facts: it is"),
        ('UPDATE jobs SET facts = \'{"tokens": {"path": 3, "note": "", "digests": []}}\'', "tokens: path is 3"),
        ('UPDATE jobs SET facts = \'{"budget_bytes": "wide"}\'', "Job one .*budget_bytes: it is 'wide'"),
        ("UPDATE jobs SET document = '{}'", "Job one .*document: "),
        ("UPDATE jobs SET document = '{\"seed\": NaN}'", "Job one .*document: NaN is no finite number"),
        ("UPDATE jobs SET facts = '{\"budget_bytes\": 1e999}'", "Job one .*facts: 1e999 is no finite number"),
        ("UPDATE trials SET state = 'ASLEEP'", "Trial 0 of job one .*state: .*ASLEEP"),
        ("UPDATE trials SET size_bytes = 'large'", "Trial 0 of job one .*size_bytes is 'large'"),
        ("UPDATE trials SET plan = '[' || plan || ']'", "Trial 0 of job one"),
        ("UPDATE trials SET measurement = replace(measurement, '1.5', 'NaN')", "Trial 0 of job one .*finite"),
        ("UPDATE trials SET sampler_state = '3'", "Trial 0 of job one .*sampler_state"),
        ("UPDATE trials SET plan = replace(plan, 'b4', 'b99')", "Trial 0 of job one cannot be read"),
        ("UPDATE trials SET measurement = '{}'", "Trial 0 of job one cannot be read"),
    ],
)
def test_record_that_cannot_be_read_is_named(database: Path, statement: str, what: str) -> None:
    """A record of another version is an error that says which one."""
    change(database, statement)
    store = open_store(f"sqlite:///{database}")
    with pytest.raises(StoreError, match=what):
        (store.get_job("one"), store.list_trials("one"))
    store.close()
