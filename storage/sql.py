"""A store in SQLite or PostgreSQL: the only door to SQLAlchemy, with the tables and migrations behind it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import Connection, CursorResult, Engine, Update, case, create_engine, event, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from space.document import FrontDocument
from space.errors import NotFoundError, StateError, StoreError
from space.measurement import Measurement
from space.plan import Plan
from space.spec import JobSpec
from storage.migrations.tables import (
    JobRow,
    MeasurementRow,
    TrialRow,
    job_of,
    measurement_json,
    reading,
    trial_of,
    trial_values,
)
from storage.migrations.upgrade import HEAD, stored_version, upgrade
from storage.records import (
    Job,
    JobState,
    Trial,
    TrialState,
    check_job_move,
    check_trial_finish,
    job_move_values,
    job_not_found,
    json_copy,
    trial_not_found,
)

_WAIT_SECONDS = 30
_CONNECT_SECONDS = 10
_NUM_NEWEST = 5
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


class SqlStore:
    """Keeps records in a database; see `Store` for the verbs. Opening it brings its tables up to date."""

    def __init__(self, url: str) -> None:
        """Open a database.

        Args:
            url: `sqlite:///path` (its folder must exist) or `postgresql://user:password@host/database`.

        Raises:
            StoreError: it cannot be opened, belongs to another program or is newer than this one.

        """
        parsed = _parsed(url)
        self._place = _place_of(parsed)
        self._engine = _made_engine(parsed, self._place)
        self._writer = self._engine.execution_options(writes=True)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    def create_job(self, job_id: str, spec: JobSpec) -> Job:
        """Create a QUEUED job. Raises StateError if the id exists."""
        values = {
            "job_id": job_id,
            "spec": spec.model_dump(mode="json"),
            "state": JobState.QUEUED,
            "created_at": datetime.now(UTC),
            "phase": "",
            "cancel_requested": False,
            "facts": {},
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

    def list_jobs(self) -> Sequence[Job]:
        """Return all jobs, newest first."""
        with self._session() as session:
            return [job_of(row) for row in session.scalars(select(JobRow).order_by(JobRow.position.desc()))]

    def set_job_state(self, job_id: str, state: JobState, error: str | None = None) -> Job:
        """Move a job. Raises NotFoundError, StateError."""
        with self._session(write=True) as session:
            old = session.scalar(select(JobRow.state).where(JobRow.job_id == job_id))
            if old is None:
                raise _job_not_found(session, job_id)
            check_job_move(job_id, old, state)
            guarded = update(JobRow).where(JobRow.job_id == job_id, JobRow.state == old)
            if not _num_changed(session, guarded.values(job_move_values(state, datetime.now(UTC), error))):
                raise StateError(f"Job {job_id} was {old} until somebody moved it; it cannot become {state}.")
            return _job(session, job_id)

    def update_job(
        self,
        job_id: str,
        *,
        phase: str | None = None,
        facts: dict[str, Any] | None = None,
        document: FrontDocument | None = None,
    ) -> None:
        """Set what is given; facts are merged key by key. Raises NotFoundError."""
        with self._session(write=True) as session:
            row = session.scalar(select(JobRow).where(JobRow.job_id == job_id).with_for_update())
            if row is None:
                raise _job_not_found(session, job_id)
            if phase is not None:
                row.phase = phase
            if facts is not None:
                row.facts = {**row.facts, **json_copy(facts)}
            if document is not None:
                row.document = json_copy(document.to_json())

    def request_cancel(self, job_id: str) -> None:
        """Ask a job to stop; a QUEUED one becomes CANCELLED at once. Raises NotFoundError."""
        queued = JobRow.state == JobState.QUEUED
        cancel = (
            update(JobRow)
            .where(JobRow.job_id == job_id, JobRow.state.in_([JobState.QUEUED, JobState.RUNNING]))
            .values(
                cancel_requested=True,
                state=case((queued, JobState.CANCELLED), else_=JobRow.state),
                finished_at=case((queued, datetime.now(UTC)), else_=JobRow.finished_at),
            )
        )
        with self._session(write=True) as session:
            if not _num_changed(session, cancel):
                _check_job_exists(session, job_id)

    def create_trials(self, trials: Sequence[Trial]) -> None:
        """Add trials of one job, all or none. Raises NotFoundError, StateError if a number exists."""
        if not trials:
            return
        job_id = trials[0].job_id
        assert all(trial.job_id == job_id for trial in trials)  # noqa: S101 (the controller has one job)
        values = [trial_values(trial) for trial in trials]
        with self._session(write=True) as session:
            _check_job_exists(session, job_id)
            try:
                session.execute(insert(TrialRow), values)
            except IntegrityError as error:
                numbers = ", ".join(str(trial.number) for trial in trials[:10])
                raise StateError(
                    f"Job {job_id} has a trial of the same number already (of {numbers}); nothing was added."
                ) from error

    def finish_trial(
        self,
        job_id: str,
        number: int,
        state: TrialState,
        measurement: Measurement | None = None,
        reason: str | None = None,
    ) -> None:
        """Move a trial (WAITING trials start through RUNNING). Raises NotFoundError, StateError."""
        values = {"state": state, "measurement": measurement_json(measurement), "reason": reason}
        with self._session(write=True) as session:
            old = _trial_state(session, job_id, number)
            check_trial_finish(job_id, number, old, state)
            if not _num_changed(session, _guarded(job_id, number, old).values(values)):
                raise StateError(f"Trial {number} of job {job_id} was {old} until somebody moved it.")

    def set_held_out(self, job_id: str, number: int, measurement: Measurement) -> None:
        """Record a COMPLETE trial's held-out measurement. Raises NotFoundError, StateError."""
        record = _guarded(job_id, number, TrialState.COMPLETE).values(held_out=measurement_json(measurement))
        with self._session(write=True) as session:
            if not _num_changed(session, record):
                state = _trial_state(session, job_id, number)
                raise StateError(f"Trial {number} of job {job_id} is {state}; only COMPLETE ones are held out.")

    def list_trials(self, job_id: str) -> Sequence[Trial]:
        """Return a job's trials by number. Raises NotFoundError."""
        with self._session() as session:
            _check_job_exists(session, job_id)
            rows = session.scalars(select(TrialRow).where(TrialRow.job_id == job_id).order_by(TrialRow.number))
            return [trial_of(row) for row in rows]

    def requeue_trials(self, job_id: str) -> int:
        """Make RUNNING and STOPPED trials WAITING again; return how many. Raises NotFoundError."""
        unfinished = TrialRow.state.in_([TrialState.RUNNING, TrialState.STOPPED])
        again = update(TrialRow).where(TrialRow.job_id == job_id, unfinished)
        with self._session(write=True) as session:
            _check_job_exists(session, job_id)
            return _num_changed(session, again.values(state=TrialState.WAITING, reason=None))

    def put_measurement(self, plan: Plan, evaluation_digest: str, measurement: Measurement) -> None:
        """Remember a measurement under its key for all jobs; an existing one is kept."""
        values = {
            "plan_digest": plan.digest,
            "evaluation_digest": evaluation_digest,
            "measurement": measurement_json(measurement),
            "created_at": datetime.now(UTC),
        }
        dialect = sqlite if self._engine.dialect.name == "sqlite" else postgresql
        with self._session(write=True) as session:
            session.execute(dialect.insert(MeasurementRow).values(values).on_conflict_do_nothing())

    def find_measurement(self, plan: Plan, evaluation_digest: str) -> Measurement | None:
        """Return the known answer to (plan, evaluation), whoever measured it."""
        with self._session() as session:
            row = session.get(MeasurementRow, (plan.digest, evaluation_digest))
            if row is None:
                return None
            with reading(f"The measurement of plan {plan.digest}"):
                return Measurement.from_json(row.measurement)

    def close(self) -> None:
        """Release the database."""
        self._engine.dispose()

    @contextmanager
    def _session(self, *, write: bool = False) -> Iterator[Session]:
        """Give one transaction; on SQLite a writing one holds the write lock from its start."""
        try:
            with Session(self._writer if write else self._engine) as session, session.begin():
                yield session
        except SQLAlchemyError as error:
            raise _store_error(self._place, error) from error
        except LookupError as error:
            if isinstance(error, NotFoundError):
                raise
            raise _store_error(self._place, error) from error  # a state that only a newer program knows

    def _migrate(self) -> None:
        with self._session() as session:
            version = stored_version(session.connection())
        if version != HEAD:
            with self._session(write=True) as session:
                upgrade(session.connection(), self._place)


def _parsed(url: str) -> URL:
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
    if parsed.drivername == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StoreError("The database URL names no file: write sqlite:///folder/tightfit.db or memory:.")
    return parsed


def _place_of(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(query={}).render_as_string(hide_password=True)


def _made_engine(url: URL, place: str) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    wait = {"timeout": _WAIT_SECONDS} if is_sqlite else {"connect_timeout": _CONNECT_SECONDS}
    given = {name: value for name, value in wait.items() if name not in url.query}
    try:
        engine = create_engine(url, connect_args=given, hide_parameters=True, pool_pre_ping=not is_sqlite)
    except (SQLAlchemyError, ImportError) as error:
        raise _store_error(place, error) from error
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    # A transaction that reads first and writes later fails at once where somebody wrote in between.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _store_error(place: str, error: Exception) -> StoreError:
    """Return what, where and what to do next; without the statement, its values and passwords."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = " ".join(str(cause).split())
    advice = next((advice for sign, advice in _ADVICE.items() if sign in text.lower()), "see the cause and try again")
    return StoreError(f"The database {place} cannot be used ({text}): {advice}.")


def _num_changed(session: Session, statement: Update) -> int:
    result = session.execute(statement, execution_options={"synchronize_session": False})
    return cast("CursorResult[Any]", result).rowcount


def _job_not_found(session: Session, job_id: str) -> NotFoundError:
    newest = select(JobRow.job_id).order_by(JobRow.position.desc()).limit(_NUM_NEWEST)
    return job_not_found(job_id, session.scalars(newest).all())


def _check_job_exists(session: Session, job_id: str) -> None:
    if session.scalar(select(JobRow.position).where(JobRow.job_id == job_id)) is None:
        raise _job_not_found(session, job_id)


def _job(session: Session, job_id: str) -> Job:
    row = session.scalar(select(JobRow).where(JobRow.job_id == job_id))
    if row is None:
        raise _job_not_found(session, job_id)
    return job_of(row)


def _guarded(job_id: str, number: int, old: TrialState) -> Update:
    return update(TrialRow).where(TrialRow.job_id == job_id, TrialRow.number == number, TrialRow.state == old)


def _trial_state(session: Session, job_id: str, number: int) -> TrialState:
    state = session.scalar(select(TrialRow.state).where(TrialRow.job_id == job_id, TrialRow.number == number))
    if state is None:
        _check_job_exists(session, job_id)
        raise trial_not_found(job_id, number)
    return state
