"""Bring a database to the newest tables; alembic is imported only where there is something to do."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from space.errors import StoreError
from storage.migrations.tables import Base

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0008"
"""The newest revision: a new file of `versions/` changes it too (a test keeps them equal)."""
VERSION_TABLE = "tightfit_alembic_version"
_LOCK = 7_490_111_250_217  # any number, the same in every process


def stored_version(connection: Connection) -> str | None:
    """Return a database's revision, or None where it has no table of ours yet."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    version: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 (constant)
    return version


def upgrade(connection: Connection, place: str) -> None:
    """Bring a database to HEAD inside the connection's transaction, one process at a time.

    Args:
        connection: in a transaction; on SQLite one that holds the write lock.
        place: the database's name for people.

    Raises:
        StoreError: the database is newer than this program or holds tables of another one.

    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    version = stored_version(connection)
    if version == HEAD:
        return  # another process was faster
    if version is None:
        _check_is_free(connection, place)
    with _quiet("alembic"):
        from alembic import command
        from alembic.script import ScriptDirectory

        config = alembic_config(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if version is not None and version not in known:
            raise _newer(place, version)
        command.upgrade(config, "head")


def check(connection: Connection, place: str) -> None:
    """Raise StoreError unless a database is at HEAD; changes nothing."""
    version = stored_version(connection)
    if version is None:
        _check_is_free(connection, place)
        raise StoreError(f"The database {place} has no tables yet: `tightfit db upgrade` or the first job makes them.")
    if version > HEAD:
        raise _newer(place, version)
    if version < HEAD:
        raise StoreError(
            f"The database {place} was written by an older tightfit (its tables are at {version}, this program's at "
            f"{HEAD}): stop what uses it, then run `tightfit db upgrade`."
        )


def _newer(place: str, version: str) -> StoreError:
    return StoreError(
        f"The database {place} was written by a newer tightfit (its tables are at {version}, this program's at "
        f"{HEAD}): update tightfit or name another database."
    )


def alembic_config(connection: Connection) -> "Config":
    """Return the configuration for alembic's commands on a connection; they print nothing."""
    from alembic.config import Config

    config = Config(stdout=StringIO(), attributes={"connection": connection})
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    return config


def _check_is_free(connection: Connection, place: str) -> None:
    taken = sorted(set(inspect(connection).get_table_names()) & set(Base.metadata.tables))
    if taken:
        raise StoreError(
            f"The database {place} holds tables of another program ({', '.join(taken)}): name a database of its own."
        )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)
