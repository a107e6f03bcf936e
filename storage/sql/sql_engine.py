"""How SQLAlchemy reaches a database: its URL read, its transactions begun, its errors in words for people."""

import sqlite3
import time
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, StatementError

from space.errors import OutageError, StoreError
from space.parsing.addresses import without_password
from space.parsing.strict_json import parse_own_json
from storage.migrations.upgrade import check
from storage.records import json_text

_WAIT_SECONDS = 30
_AGAIN_SECONDS = 0.02
_CONNECT_SECONDS = 10
_IDLE_SECONDS = 10  # amid a transaction; PostgreSQL ends it then, since who is stopped there would block all others
_OUTAGE_CLASSES = ("08", "57P")  # of PostgreSQL's SQLSTATE: connection, operator intervention
_ADVICE = {
    "not a database": "the file is something else; name another one",
    "unable to open": "check that its folder exists and can be written, or name another place",
    "readonly": "check that the file and its folder can be written, or name another place",
    "malformed": "the file is damaged; restore a copy or name another one",
    "locked": "another program keeps it locked; stop that program or try again",
    "is full": "free some disk space",
    "resolve host": "check the name of the host in the URL",
    "connect": "check that the server runs and that host, database, user and password of the URL are right",
}


def parsed_url(url: str) -> URL:
    """Return a URL in the form that SQLAlchemy wants. Raises StoreError, without any part of a password."""
    try:
        parsed = make_url(url)
        if not url.startswith("sqlite") and "@" in f"{parsed.host}{parsed.database}":
            raise ValueError("the rest of a password")  # noqa: TRY301
    except (SQLAlchemyError, ValueError):
        # Neither the URL nor the cause is shown: either may hold a password.
        scheme = url.partition(":")[0]
        raise StoreError(f"The database URL {scheme}:... cannot be read: write @ as %40, / as %2F.") from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    return parsed


def place_of(url: URL) -> str:
    """Return a database's name for people."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


def made_engine(url: URL, place: str) -> Engine:
    """Return an engine whose transactions wait for others instead of failing. Raises StoreError."""
    is_sqlite = url.get_backend_name() == "sqlite"
    wait = {"timeout": _WAIT_SECONDS} if is_sqlite else {"connect_timeout": _CONNECT_SECONDS}
    given = {name: value for name, value in wait.items() if name not in url.query}
    try:
        engine = create_engine(
            url,
            connect_args=given,
            hide_parameters=True,
            pool_pre_ping=not is_sqlite,
            json_serializer=json_text,
            json_deserializer=parse_own_json,
        )
    except (SQLAlchemyError, ImportError) as error:
        raise store_error(place, error) from error
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "connect", _prepare_postgres)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    cursor = connection.cursor()
    _set_write_ahead(cursor)
    for pragma in ("synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _set_write_ahead(cursor: sqlite3.Cursor) -> None:
    """Give a new database its journal: this change alone fails at once, without SQLite's own wait, beside others."""
    deadline = time.monotonic() + cursor.execute("PRAGMA busy_timeout").fetchone()[0] / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(_AGAIN_SECONDS)
        else:
            return


def _prepare_postgres(connection: Any, _record: object) -> None:
    connection.autocommit = True
    connection.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
    connection.autocommit = False


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once where somebody wrote in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def store_error(place: str, error: Exception) -> StoreError:
    """Return what, where and what to do next; without the statement, its values and passwords."""
    if isinstance(error, StatementError) and isinstance(error.orig, StoreError):
        return error.orig  # a value that is no JSON
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = without_password(" ".join(str(cause).split()))
    advice = next((advice for sign, advice in _ADVICE.items() if sign in text.lower()), "see the cause and try again")
    kind = OutageError if _is_outage(error) else StoreError
    return kind(f"The database {place} cannot be used ({text}): {advice}.")


def _is_outage(error: Exception) -> bool:
    """Tell whether the same verb may succeed later: the server is away, or another program keeps a file locked."""
    if not isinstance(error, OperationalError):
        return isinstance(error, DBAPIError) and error.connection_invalidated
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig)
    state = getattr(error.orig, "sqlstate", None)  # None: the server did not answer at all
    return state is None or state.startswith(_OUTAGE_CLASSES)


def check_version(url: str) -> str:
    """Return a database's name for people; changes nothing. Raises StoreError unless its tables are this program's."""
    parsed = parsed_url(url)
    place = place_of(parsed)
    engine = made_engine(parsed, place)
    try:
        with engine.begin() as connection:
            check(connection, place)
    except SQLAlchemyError as error:
        raise store_error(place, error) from error
    finally:
        engine.dispose()
    return place
