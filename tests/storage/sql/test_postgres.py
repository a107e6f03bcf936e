"""The store in PostgreSQL keeps the contract."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from space.errors import StoreError
from storage.open_store import open_store
from storage.store import Store
from tests.storage.store_contract import StoreContract
from tests.storage.values import MEASURED, spec, trial

ROOT = Path(__file__).parents[3]
STOPPED = """
import os, signal, sys
from sqlalchemy import text
from storage.sql import sql_engine
from storage.open_store import open_store
from storage.leases.outage_retry import held_store

sql_engine._IDLE_SECONDS = 1
store = open_store(sys.argv[1])
lease = store.claim_job("stopped", "one")
try:
    with store.holding(lease)._session(write=True) as session:  # the job's row is locked
        os.kill(os.getpid(), signal.SIGSTOP)
        session.execute(text("UPDATE jobs SET phase = 'too late'"))
except Exception as error:
    print(type(error).__name__)
try:
    held_store(store, lease).update_job("one", phase="too late")
except Exception as error:
    print(type(error).__name__, error)
"""


class TestPostgresStore(StoreContract):
    """`postgresql+psycopg://`."""

    @pytest.fixture
    def store(self, postgres_url: str) -> Iterator[Store]:
        """Give an empty store."""
        store = open_store(postgres_url)
        yield store
        store.close()


@pytest.mark.parametrize("scheme", ["postgresql://", "postgres://"])
def test_url_needs_no_driver(postgres_url: str, scheme: str) -> None:
    """The short forms of the URL open the same database, whose records outlive the store."""
    first = open_store(postgres_url)
    job = first.create_job("one", spec())
    first.create_trials([trial(0, measurement=MEASURED)])
    first.close()
    second = open_store(postgres_url.replace("postgresql+psycopg://", scheme))
    assert second.get_job("one") == job
    assert second.list_trials("one") == [trial(0, measurement=MEASURED)]
    second.close()


def test_unreachable_server_is_named_without_password() -> None:
    """The error says where, why and what to do, and keeps the secret."""
    with pytest.raises(StoreError, match=r"me:\*\*\*@127\.0\.0\.1:1/jobs .* check that the server runs") as caught:
        open_store("postgresql://me:se%40cret@127.0.0.1:1/jobs?application_name=se%40cret")
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    "rest", ["me:first@secret/x@host/jobs", "me:first@secret@host/jobs", "me:first@host:secret/jobs"]
)
def test_unreadable_url_shows_no_password(rest: str) -> None:
    """What stands for a host or a port may be the rest of a password that was not escaped."""
    with pytest.raises(StoreError, match=r"postgresql:\.\.\. cannot be read: write @ as %40") as caught:
        open_store(f"postgresql://{rest}")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_missing_database_is_named(postgres_url: str) -> None:
    """A database that nobody created is an error with its name."""
    with pytest.raises(StoreError, match='database "nowhere" does not exist'):
        open_store(make_url(postgres_url).set(database="nowhere").render_as_string(hide_password=False))


def test_who_is_stopped_amid_a_write_blocks_nobody_for_long(postgres_url: str) -> None:
    """SIGSTOP within a transaction: the server ends it, another controller takes the job, and nothing is written."""
    store = open_store(postgres_url)
    store.create_job("one", spec())
    command = [sys.executable, "-c", STOPPED, postgres_url]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert store.take_over(store.get_job("one"), "other") is not None
    process.send_signal(signal.SIGCONT)
    first, second = process.communicate(timeout=60)[0].splitlines()
    assert first == "OutageError"
    assert second.startswith("LeaseLostError Job one is no longer held by stopped but held by other")
    assert store.get_job("one").phase == ""
    store.close()
