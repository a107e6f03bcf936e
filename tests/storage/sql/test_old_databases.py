"""A database of every version that ever was is opened with all its records; what does not fit is refused unchanged."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from space.errors import StoreError
from storage.leases.lease import is_gone
from storage.migrations import versions
from storage.migrations.upgrade import VERSION_TABLE
from storage.open_store import check_version, open_store
from storage.records import Asking, JobState, Known
from tests.storage.sql.golden.make import DONE_SUMMARY, FACTS, OTHER, TASK_PROGRESS, TOKEN, TRIALS
from tests.storage.values import ASKED, DOCUMENT, MEASURED, PLAN, spec

GOLDEN = Path(__file__).with_name("golden")
FILES = sorted(GOLDEN.glob("*.db"))


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a copy of a golden database."""
    return Path(shutil.copy(request.param, tmp_path / "store.db"))


def content(path: Path) -> bytes:
    """Return a database without its header, which says how it is written."""
    return path.read_bytes()[100:]


def test_every_version_has_a_golden_database() -> None:
    """A new migration comes with a new file."""
    files = Path(str(versions.__file__)).parent.glob("0*.py")
    assert [path.stem for path in FILES] == sorted(path.stem.partition("_")[0] for path in files)


@pytest.mark.parametrize("database", FILES, indirect=True, ids=lambda path: path.stem)
def test_records_of_every_version_are_kept(database: Path) -> None:
    """Jobs, trials, measurements and fronts are what the program of that time wrote; resting jobs go on."""
    store = open_store(f"sqlite:///{database}")
    one, two, three = (store.get_job(name) for name in ("one", "two", "three"))
    assert one.spec == spec(seed=3, max_trials=one.spec.max_trials)  # another version's default
    assert (one.state, one.facts, one.document) == (JobState.DONE, FACTS, DOCUMENT)
    assert store.list_trials("one") == TRIALS
    known = [Known(PLAN, "e" * 64, MEASURED, Asking("uniform"))]
    known += [Known(OTHER, "e" * 64, MEASURED, Asking("sensitivity", PLAN))]
    assert list(store.list_measurements(["e" * 64])) == sorted(known, key=lambda k: k.plan.digest)
    summary = store.overview("one").summary
    assert summary is not None
    expected = replace(DONE_SUMMARY, updated_at=summary.updated_at)
    assert summary in (expected, replace(expected, share_done=None, seconds_left=None))  # older programs told no more
    assert [o.summary for o in store.list_overviews()] == [None, None, summary]
    assert (two.state, two.holder, is_gone(two.holder)) == (JobState.RUNNING, None, True)
    assert store.resume_job("two", two).state is JobState.QUEUED
    assert three.state is (JobState.RUNNING if three.holder else JobState.QUEUED)
    assert (three.pause_requested, three.token, three.beat) == ((True, 1, 1) if three.holder else (False, 0, 0))
    assert store.claim_job("me") is not None
    if store.list_tasks("one"):  # older programs had neither tasks nor events
        t2, t1 = store.list_tasks("one")
        assert (t1.state, t1.progress, t1.share_done, is_gone(t1.holder)) == ("RUNNING", *TASK_PROGRESS, False)
        assert t2 == replace(replace(ASKED, host="host").queued("t2"), created_at=t2.created_at)
        assert [event.seq for event in store.list_events("one")] == list(range(1, 10))
    else:
        assert [event.facts["state"] for event in store.list_events("two")][:1] == ["QUEUED"]
    assert list(store.list_tokens()) in ([TOKEN], [])  # older programs knew nobody
    store.close()
    check_version(f"sqlite:///{database}")


@pytest.mark.parametrize("database", FILES[:-1], indirect=True, ids=lambda path: path.stem)
def test_check_names_an_older_database(database: Path) -> None:
    """And says how to bring it up to date, in one sentence, changing nothing."""
    before = content(database)
    told = rf"older tightfit \(its tables are at \d+, this program's at {FILES[-1].stem}\): .*`tightfit db upgrade`\."
    with pytest.raises(StoreError, match=told):
        check_version(f"sqlite:///{database}")
    assert content(database) == before


@pytest.mark.parametrize("database", FILES[-1:], indirect=True, ids=lambda path: path.stem)
def test_check_and_opening_refuse_a_newer_database(database: Path) -> None:
    """One sentence, nothing changed, whatever its tables hold."""
    engine = create_engine(f"sqlite:///{database}")
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
        connection.execute(text("ALTER TABLE jobs RENAME TO projects"))
    engine.dispose()
    before = content(database)
    for look in (check_version, open_store):
        with pytest.raises(StoreError, match=r"newer tightfit \(its tables are at 0999.*: update tightfit") as caught:
            look(f"sqlite:///{database}")
        assert str(caught.value).count(". ") == 0
    assert content(database) == before


def test_check_makes_no_database(tmp_path: Path) -> None:
    """A file that is not there is named, and still is not there."""
    with pytest.raises(StoreError, match=r"There is no database .*none\.db"):
        check_version(f"sqlite:///{tmp_path}/none.db")
    assert list(tmp_path.iterdir()) == []
