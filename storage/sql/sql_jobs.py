"""Jobs of a store in SQLite or PostgreSQL: their verbs, who holds them, and the transactions of the whole store."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self, cast

from sqlalchemy import ColumnElement, Connection, CursorResult, Update, and_, bindparam, case, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from space.errors import NotFoundError, StateError
from space.results.document import FrontDocument
from storage.migrations.tables import JobRow, TrialRow, job_of
from storage.migrations.upgrade import HEAD, stored_version, upgrade
from storage.records import (
    Job,
    JobState,
    Lease,
    TrialState,
    check_job_move,
    granted,
    job_move_values,
    job_not_found,
    job_sources,
    lease_lost,
)
from storage.sound_records import reading
from storage.sql.sql_engine import made_engine, parsed_url, place_of, store_error

if TYPE_CHECKING:
    from space.spec import JobSpec

_NUM_NEWEST = 5
_JOBS = JobRow.__table__
_GLANCE = select(*(c for c in _JOBS.c if c.name not in ("facts", "document"))).where(
    _JOBS.c.job_id == bindparam("key_job")
)
_HELD = (
    select(_JOBS.c.position)
    .where(_JOBS.c.job_id == bindparam("key_job"), _JOBS.c.token == bindparam("key_token"))
    .where(_JOBS.c.state == JobState.RUNNING)
    .with_for_update(key_share=True)
)
_CLEAN = {"cancel_requested": False, "pause_requested": False}


class SqlJobs:
    """The part of `SqlStore` that keeps jobs. A write of a view made by `holding` checks its lease first."""

    def __init__(self, url: str) -> None:
        """Open a database.

        Args:
            url: `sqlite:///path` (its folder must exist) or `postgresql://user:password@host/database`.

        Raises:
            StoreError: it cannot be opened, belongs to another program or is newer than this one.

        """
        parsed = parsed_url(url)
        self._place = place_of(parsed)
        self._lease: Lease | None = None
        self._engine = made_engine(parsed, self._place)
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    def create_job(self, job_id: str, spec: "JobSpec", user: str | None = None) -> Job:
        """Create a QUEUED job. Raises StateError if the id exists."""
        values = {
            "job_id": job_id,
            "spec": spec.model_dump(mode="json"),
            "state": JobState.QUEUED,
            "created_at": datetime.now(UTC),
            "phase": "",
            "user": user,
            "facts": {},
            "token": 0,
            "beat": 0,
            **_CLEAN,
        }
        with self._session(write=True) as session:
            try:
                session.execute(insert(JobRow), [values])
            except IntegrityError as error:
                raise StateError(f"Job {job_id} exists already; choose another id.") from error
            return _job(session, job_id)

    def get_job(self, job_id: str) -> Job:
        """Return a job. Raises NotFoundError, naming the newest jobs."""
        with self._session() as session:
            return _job(session, job_id)

    def glance(self, job_id: str) -> Job:
        """Return a job without its facts and document. Raises NotFoundError."""
        with self._connection() as connection:
            row = connection.execute(_GLANCE, {"key_job": job_id}).first()
            if row is None:
                raise _job_not_found(Session(connection), job_id)
            return job_of(row, whole=False)

    def list_jobs(self, states: Collection[JobState] | None = None) -> Sequence[Job]:
        """Return all jobs, or those in some states, newest first."""
        with self._session() as session:
            found = select(JobRow).order_by(JobRow.position.desc())
            found = found if states is None else found.where(JobRow.state.in_(states))
            return [job_of(row) for row in session.scalars(found)]

    def set_job_state(self, job_id: str, state: JobState, error: str | None = None) -> Job:
        """Move a job. Raises NotFoundError, StateError."""
        with self._session(write=True) as session:
            state = _granted(session, job_id, state)
            legal = update(JobRow).where(JobRow.job_id == job_id, JobRow.state.in_(job_sources(state)))
            changed = num_changed(session, legal.values(job_move_values(state, datetime.now(UTC), error)))
            job = _job(session, job_id)
            if not changed:
                check_job_move(job_id, job.state, state)
                raise StateError(f"Job {job_id} was moved by somebody else just now; look at its state and try again.")
            return job

    def update_job(
        self,
        job_id: str,
        *,
        phase: str | None = None,
        facts: dict[str, Any] | None = None,
        document: FrontDocument | None = None,
    ) -> None:
        """Set what is given; facts are merged key by key. Raises NotFoundError."""
        values: dict[str, Any] = {} if phase is None else {"phase": phase}
        if document is not None:
            values["document"] = document.to_json()
        with self._session(write=True) as session:
            if facts is not None:  # only they need what is there, which is large
                kept = session.execute(select(JobRow.facts).where(JobRow.job_id == job_id).with_for_update()).scalar()
                values["facts"] = {**(kept or {}), **facts}
            if not values or not num_changed(session, update(JobRow).where(JobRow.job_id == job_id).values(values)):
                check_job_exists(session, job_id)

    def request_cancel(self, job_id: str) -> None:
        """Ask a job to stop; a QUEUED or PAUSED one is CANCELLED at once. Raises NotFoundError."""
        waits = JobRow.state.in_([JobState.QUEUED, JobState.PAUSED])
        values = {
            "cancel_requested": True,
            "state": case((waits, JobState.CANCELLED), else_=JobRow.state),
            "finished_at": case((waits, datetime.now(UTC)), else_=JobRow.finished_at),
        }
        cancel = update(JobRow).where(JobRow.job_id == job_id, waits | (JobRow.state == JobState.RUNNING))
        with self._session(write=True) as session:
            if not num_changed(session, cancel.values(values)):
                check_job_exists(session, job_id)

    def request_pause(self, job_id: str) -> None:
        """Ask a job to stop for a while; a QUEUED one is PAUSED at once. Raises NotFoundError."""
        queued = JobRow.state == JobState.QUEUED
        pause = update(JobRow).where(JobRow.job_id == job_id, JobRow.state.in_([JobState.QUEUED, JobState.RUNNING]))
        state = case((queued, JobState.PAUSED), else_=JobRow.state)
        with self._session(write=True) as session:
            if not num_changed(session, pause.values(state=state, pause_requested=case((queued, False), else_=True))):
                check_job_exists(session, job_id)

    def resume_job(self, job_id: str, seen: Job | None = None) -> Job:
        """Queue a job that rests or whose controller has gone. Raises NotFoundError."""
        rests = JobRow.state.in_([state for state in JobState if state.rests])
        can = rests if seen is None else rests | _as_seen(seen)
        queued = update(JobRow).where(JobRow.job_id == job_id, can)
        unfinished = TrialRow.state.in_([TrialState.RUNNING, TrialState.STOPPED])
        again = update(TrialRow).where(TrialRow.job_id == job_id, unfinished)
        with self._session(write=True) as session:
            if num_changed(session, queued.values(job_move_values(JobState.QUEUED, datetime.now(UTC), None))):
                num_changed(session, again.values(state=TrialState.WAITING, reason=None))
            else:
                num_changed(session, update(JobRow).where(JobRow.job_id == job_id).values(_CLEAN))
            return _job(session, job_id)

    def claim_job(self, holder: str, job_id: str | None = None) -> Lease | None:
        """Claim a QUEUED job, the oldest unless one is named. Raises NotFoundError."""
        queued = JobRow.state == JobState.QUEUED
        first = select(JobRow.position).where(queued if job_id is None else queued & (JobRow.job_id == job_id))
        first = first.order_by(JobRow.position).limit(1)
        if self._engine.dialect.name == "postgresql":  # SQLite ignores it, and needs none: one writes at a time
            first = first.with_for_update(skip_locked=job_id is None)
        with self._session(write=True) as session:
            lease = _claim(session, update(JobRow).where(JobRow.position == first.scalar_subquery(), queued), holder)
            if lease is None and job_id is not None:
                check_job_exists(session, job_id)
            return lease

    def take_over(self, job: Job, holder: str) -> Lease | None:
        """Claim a RUNNING job whose lease was not renewed since it was read."""
        with self._session(write=True) as session:
            return _claim(session, update(JobRow).where(JobRow.job_id == job.job_id, _as_seen(job)), holder)

    def renew(self, lease: Lease) -> None:
        """Count one more beat of a lease. Raises LeaseLostError."""
        with self._session(write=True) as session:
            _check_lease(session.connection(), lease)
            num_changed(session, update(JobRow).where(JobRow.job_id == lease.job_id).values(beat=JobRow.beat + 1))

    def holding(self, lease: Lease) -> Self:
        """Return this store for a job's controller: every write first checks the lease."""
        held = copy(self)
        held._lease = lease  # noqa: SLF001 (our own copy)
        return held

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
        """Give one transaction; a writing one locks the database (SQLite) or the held job (PostgreSQL) at its start."""
        try:
            with (self._writer if write else self._engine).begin() as connection:
                if write and self._lease is not None:
                    _check_lease(connection, self._lease)
                yield connection
        except SQLAlchemyError as error:
            raise store_error(self._place, error) from error

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
        raise _job_not_found(session, job_id)


def _job_not_found(session: Session, job_id: str) -> NotFoundError:
    newest = select(JobRow.job_id).order_by(JobRow.position.desc()).limit(_NUM_NEWEST)
    return job_not_found(job_id, session.scalars(newest).all())


def _job(session: Session, job_id: str) -> Job:
    row = session.scalar(select(JobRow).where(JobRow.job_id == job_id))
    if row is None:
        raise _job_not_found(session, job_id)
    return job_of(row)


def _granted(session: Session, job_id: str, move: JobState) -> JobState:
    """Return where a move leads, by what was asked of the job until the end of this transaction."""
    asked = select(JobRow.state, JobRow.cancel_requested, JobRow.pause_requested).where(JobRow.job_id == job_id)
    row = session.execute(asked.with_for_update(key_share=True)).one_or_none()
    if row is None:
        return move
    state, cancel, pause = row
    with reading(f"Job {job_id}"):
        old = JobState(state)
    return granted(move, old, cancel_requested=cancel, pause_requested=pause)


def _as_seen(job: Job) -> ColumnElement[bool]:
    return and_(JobRow.state == JobState.RUNNING, JobRow.token == job.token, JobRow.beat == job.beat)


def _claim(session: Session, claim: Update, holder: str) -> Lease | None:
    """Claim the job of a guarded UPDATE, in that one statement; None where it changes no row."""
    values = job_move_values(JobState.RUNNING, datetime.now(UTC), None)
    claim = claim.values(holder=holder, token=JobRow.token + 1, beat=0, **values)
    options = {"synchronize_session": False}
    found = session.execute(claim.returning(JobRow.job_id, JobRow.token), execution_options=options).first()
    return None if found is None else Lease(found.job_id, holder, found.token)


def _check_lease(connection: Connection, lease: Lease) -> None:
    """Raise LeaseLostError unless the lease holds; until the transaction ends, nobody else can claim its job."""
    if connection.scalar(_HELD, {"key_job": lease.job_id, "key_token": lease.token}) is None:
        raise lease_lost(lease, _job(Session(connection), lease.job_id))
