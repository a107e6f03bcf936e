"""Transactions of a store in SQLite or PostgreSQL: who may write, and the event that is written with what it tells."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from typing import Any, Self, cast

from sqlalchemy import Connection, CursorResult, Update, bindparam, func, insert, select, update
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from space.errors import NotFoundError
from storage.events import MAX_EVENTS, Event, News
from storage.migrations.tables import EventRow, JobRow, TaskRow
from storage.migrations.upgrade import HEAD, stored_version, upgrade
from storage.point_tasks import PointTask, TaskLease, TaskState, task_lease_lost, task_not_found
from storage.records import Job, JobState, Lease, job_not_found, lease_lost
from storage.sql.sql_engine import made_engine, parsed_url, place_of, store_error
from storage.sql.sql_rows import event_of, job_of, task_of

_NUM_NEWEST = 5
_JOBS, _TASKS, _EVENTS = JobRow.__table__, TaskRow.__table__, EventRow.__table__
# A write of a view made by `holding` begins with one of these; until it ends, nobody else can claim the job or task.
_HELD = (
    select(_JOBS.c.position)
    .where(_JOBS.c.job_id == bindparam("key_job"), _JOBS.c.token == bindparam("key_token"))
    .where(_JOBS.c.state == JobState.RUNNING)
    .with_for_update(key_share=True)
)
_HELD_TASK = (
    select(_TASKS.c.position)
    .where(_TASKS.c.task_id == bindparam("key_task"), _TASKS.c.token == bindparam("key_token"))
    .where(_TASKS.c.state == TaskState.RUNNING)
    .with_for_update(key_share=True)
)
# Who adds an event has locked its job's row: numbers are given, and become visible, one after the other.
_LOCKED = select(_JOBS.c.position).where(_JOBS.c.job_id == bindparam("key_job")).with_for_update(key_share=True)
_NEXT = select(func.coalesce(func.max(_EVENTS.c.seq), 0) + 1).where(_EVENTS.c.job_id == bindparam("key_job"))
_ADD = insert(EventRow.__table__).values(seq=_NEXT.scalar_subquery()).inline()  # type: ignore[arg-type]
_LAST_OF_KIND = (
    select(_EVENTS.c.facts)
    .where(_EVENTS.c.job_id == bindparam("key_job"), _EVENTS.c.kind == bindparam("key_kind"))
    .order_by(_EVENTS.c.seq.desc())
    .limit(1)
)
_AFTER = (
    select(*_EVENTS.c)
    .where(_EVENTS.c.job_id == bindparam("key_job"), _EVENTS.c.seq > bindparam("key_seq"))
    .order_by(_EVENTS.c.seq)
)


class SqlTransactions:
    """The part of `SqlStore` that opens a database. A write of a view made by `holding` checks its lease first."""

    def __init__(self, url: str) -> None:
        """Open a database.

        Args:
            url: `sqlite:///path` (its folder must exist) or `postgresql://user:password@host/database`.

        Raises:
            StoreError: it cannot be opened, belongs to another program or is newer than this one.

        """
        parsed = parsed_url(url)
        self._place = place_of(parsed)
        self._lease: Lease | TaskLease | None = None
        self._engine = made_engine(parsed, self._place)
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    def renew(self, lease: Lease | TaskLease) -> None:
        """Count one more beat of a lease. Raises LeaseLostError."""
        with self._session(write=True) as session:
            _check_lease(session.connection(), lease)
            if isinstance(lease, TaskLease):
                beat = update(TaskRow).where(TaskRow.task_id == lease.task_id).values(beat=TaskRow.beat + 1)
            else:
                beat = update(JobRow).where(JobRow.job_id == lease.job_id).values(beat=JobRow.beat + 1)
            num_changed(session, beat)

    def holding(self, lease: Lease | TaskLease) -> Self:
        """Return this store for the controller of a job or task: every write first checks the lease."""
        held = copy(self)
        held._lease = lease  # noqa: SLF001 (our own copy)
        return held

    def list_events(self, job_id: str, after: int = 0, limit: int = MAX_EVENTS) -> Sequence[Event]:
        """Return a job's events of higher numbers, by number, at most so many. Raises NotFoundError."""
        with self._connection() as connection:
            found = connection.execute(_AFTER.limit(limit), {"key_job": job_id, "key_seq": after}).all()
            if not found:
                check_job_exists(Session(connection), job_id)
            return [event_of(row) for row in found]

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Session]:
        """Give one transaction; see `_connection`."""
        with self._connection(write=write) as connection, Session(connection) as session, session.begin():
            yield session

    @contextmanager
    def _connection(self, *, write: bool = False) -> Iterator[Connection]:
        """Give one transaction; a writing one locks the database (SQLite) or what is held (PostgreSQL) at its start."""
        try:
            with (self._writer if write else self._engine).begin() as connection:
                if write and self._lease is not None:
                    _check_lease(connection, self._lease)
                yield connection
        except SQLAlchemyError as error:
            raise store_error(self._place, error) from error

    def _lock_job(self, connection: Connection, job_id: str) -> None:
        """Lock a job's row; the rows of its tasks are locked before, if at all, and those of its trials after."""
        holds_job = isinstance(self._lease, Lease) and self._lease.job_id == job_id
        if connection.dialect.name == "postgresql" and not holds_job:
            connection.execute(_LOCKED, {"key_job": job_id})

    def _add_event(self, connection: Connection, job_id: str, news: News) -> None:
        """Add an event of a job that is there."""
        self._lock_job(connection, job_id)
        values = {"job_id": job_id, "kind": news.kind, "at": datetime.now(UTC), "facts": news.facts}
        connection.execute(_ADD, values | {"key_job": job_id})

    def _add_event_if_new(self, connection: Connection, job_id: str, news: News) -> None:
        """Add an event unless the job's last one of its kind tells the same."""
        last = connection.scalar(_LAST_OF_KIND, {"key_job": job_id, "key_kind": news.kind})
        if last != news.facts:
            self._add_event(connection, job_id, news)

    def _migrate(self) -> None:
        with self._connection() as connection:
            version = stored_version(connection)
        if version != HEAD:
            with self._connection(write=True) as connection:
                upgrade(connection, self._place)


def num_changed(session: Session, statement: Update) -> int:
    """Run an UPDATE and return how many rows it changed."""
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount


def check_job_exists(session: Session, job_id: str) -> None:
    """Raise NotFoundError for a job that is not there."""
    if session.scalar(select(JobRow.position).where(JobRow.job_id == job_id)) is None:
        raise missing_job(session, job_id)


def missing_job(session: Session, job_id: str) -> NotFoundError:
    """Return the error for a job that is not there."""
    newest = select(JobRow.job_id).order_by(JobRow.position.desc()).limit(_NUM_NEWEST)
    return job_not_found(job_id, session.scalars(newest).all())


def stored_job(session: Session, job_id: str) -> Job:
    """Return a job. Raises NotFoundError."""
    row = session.scalar(select(JobRow).where(JobRow.job_id == job_id))
    if row is None:
        raise missing_job(session, job_id)
    return job_of(row)


def stored_task(session: Session, task_id: str) -> PointTask:
    """Return a task. Raises NotFoundError."""
    row = session.scalar(select(TaskRow).where(TaskRow.task_id == task_id))
    if row is None:
        newest = select(TaskRow.task_id).order_by(TaskRow.position.desc()).limit(_NUM_NEWEST)
        raise task_not_found(task_id, session.scalars(newest).all())
    return task_of(row)


def _check_lease(connection: Connection, lease: Lease | TaskLease) -> None:
    """Raise LeaseLostError unless the lease holds; until the transaction ends, nobody else can claim what it is of."""
    if isinstance(lease, TaskLease):
        if connection.scalar(_HELD_TASK, {"key_task": lease.task_id, "key_token": lease.token}) is None:
            raise task_lease_lost(lease, stored_task(Session(connection), lease.task_id))
    elif connection.scalar(_HELD, {"key_job": lease.job_id, "key_token": lease.token}) is None:
        raise lease_lost(lease, stored_job(Session(connection), lease.job_id))
