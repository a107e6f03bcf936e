"""Open the store that a URL names; SQLAlchemy is imported only for a database."""

from pathlib import Path

from space.errors import StoreError
from storage.in_memory import MemoryStore
from storage.private import make_private, make_private_file
from storage.sql.sqlite_urls import sqlite_path
from storage.store import Store

_SQLITE = "sqlite:///"
_POSTGRESQL = ("postgresql://", "postgresql+psycopg://", "postgres://")
_NO_FILE = (".", ":memory:")  # SQLite's own stores in memory, another one in every thread
_HELP = "write sqlite:///folder/tightfit.db, postgresql://user:password@host/database or memory:"


def open_store(url: str) -> Store:
    """Open a store and bring its tables up to date; missing folders of a SQLite file are made.

    What is made can be read by its user only.

    Args:
        url: `memory:`, `sqlite:///relative.db`, `sqlite:////absolute.db` or `postgresql://user:password@host/database`.

    Raises:
        StoreError: the URL names no store, or the database cannot be opened, is not ours or is newer than the program.

    """
    if url == "memory:":
        return MemoryStore()
    path = _sqlite_path(url)
    if path is not None:
        _make_parent(path)
        make_private_file(path)
    from storage.sql.sql_store import SqlStore

    return SqlStore(url)


def is_there(url: str) -> bool:
    """Tell whether a URL names a database that exists, or a server, which alone could tell. Raises StoreError."""
    return url != "memory:" and ((path := _sqlite_path(url)) is None or path.exists())


def check_version(url: str) -> str:
    """Return a database's name for people where its tables are at this program's version; changes nothing.

    Raises:
        StoreError: it is not there, older, newer, or not ours; the message says what to do.

    """
    if url == "memory:":
        return url
    path = _sqlite_path(url)
    if path is not None and not path.exists():
        raise StoreError(f"There is no database {path}: `tightfit db upgrade` or the first job makes it.")
    from storage.sql import sql_engine

    return sql_engine.check_version(url)


def _sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL; None for SQLite's own URI (a database that exists) and for PostgreSQL.

    Raises:
        StoreError: the URL names no database.

    """
    if not url.startswith((_SQLITE, *_POSTGRESQL)):
        # Only the scheme: the rest may hold a password.
        raise StoreError(f"The database URL {url.partition(':')[0]}:... names no store: {_HELP}.")
    path = sqlite_path(url)
    if path is not None and str(path) in _NO_FILE:
        raise StoreError(f"The database URL {url} names no file: {_HELP}.")
    return path


def _make_parent(path: Path) -> None:
    try:
        make_private(path.parent)
    except OSError as error:
        raise StoreError(f"The folder {path.parent} cannot be made ({error.strerror}): name another place.") from error
