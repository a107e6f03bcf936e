"""A store in SQLite or PostgreSQL: the only door to SQLAlchemy, with the tables and migrations behind it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast

from sqlalchemy import CursorResult, Update, bindparam, case, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.orm import Session

from space.document import FrontDocument
from space.errors import NotFoundError, StateError
from space.measurement import Measurement
from space.plan import Plan
from space.spec import JobSpec
from storage.migrations.tables import (
    JobRow,
    MeasurementRow,
    TrialRow,
    job_of,
    known_of,
    measurement_json,
    reading,
    trial_of,
    trial_values,
)
from storage.migrations.upgrade import HEAD, stored_version, upgrade
from storage.records import (
    Asking,
    Job,
    JobState,
    Known,
    Trial,
    TrialState,
    check_job_move,
    check_trial_finish,
    job_move_values,
    job_not_found,
    json_copy,
    may_become,
    trial_not_found,
)
from storage.sql_engine import made_engine, parsed_url, place_of, store_error

_NUM_NEWEST = 5
_JOBS, _TRIALS, _MEASUREMENTS = JobRow.__table__, TrialRow.__table__, MeasurementRow.__table__
# What is executed for every trial is built once: building a statement takes longer than executing it.
_GLANCE = select(*(c for c in _JOBS.c if c.name not in ("facts", "document"))).where(
    _JOBS.c.job_id == bindparam("key_job")
)
_FINISH = (
    update(TrialRow.__table__)  # type: ignore[arg-type]
    .where(_TRIALS.c.job_id == bindparam("key_job"), _TRIALS.c.number == bindparam("key_number"))
    .where(or_(_TRIALS.c.state == bindparam("key_one"), _TRIALS.c.state == bindparam("key_other")))
    .values({name: bindparam(name) for name in ("state", "measurement", "reason")})
)
_FIND = select(_MEASUREMENTS.c.measurement).where(
    _MEASUREMENTS.c.plan_digest == bindparam("key_plan"),
    _MEASUREMENTS.c.evaluation_digest == bindparam("key_evaluation"),
)
_PUT = {d.__name__.rpartition(".")[2]: d.insert(MeasurementRow).on_conflict_do_nothing() for d in (sqlite, postgresql)}


class SqlStore:
    """Keeps records in a database; see `Store` for the verbs. Opening it brings its tables up to date."""

    def __init__(self, url: str) -> None:
        """Open a database.

        Args:
            url: `sqlite:///path` (its folder must exist) or `postgresql://user:password@host/database`.

        Raises:
            StoreError: it cannot be opened, belongs to another program or is newer than this one.

        """
        parsed = parsed_url(url)
        self._place = place_of(parsed)
        self._engine = made_engine(parsed, self._place)
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

    def glance(self, job_id: str) -> Job:
        """Return a job without its facts and document. Raises NotFoundError."""
        with self._session() as session:
            row = session.connection().execute(_GLANCE, {"key_job": job_id}).first()
            if row is None:
                raise _job_not_found(session, job_id)
            return job_of(row, whole=False)

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
        old_states = may_become(state)
        key = {"key_job": job_id, "key_number": number, "key_one": old_states[0], "key_other": old_states[-1]}
        with self._session(write=True) as session:
            if not session.connection().execute(_FINISH, key | values).rowcount:
                old = _trial_state(session, job_id, number)
                check_trial_finish(job_id, number, old, state)
                raise StateError(f"Trial {number} of job {job_id} became {old} while somebody else moved it.")

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

    def put_measurement(
        self, plan: Plan, evaluation_digest: str, measurement: Measurement, asking: Asking | None = None
    ) -> None:
        """Remember a measurement under its key for all jobs, and who asked for it; an existing one is kept."""
        values = {
            "plan_digest": plan.digest,
            "evaluation_digest": evaluation_digest,
            "measurement": measurement_json(measurement),
            "created_at": datetime.now(UTC),
            "plan": plan.to_json(),
            "origin": asking.origin if asking else None,
            "base": asking.base.to_json() if asking and asking.base else None,
        }
        with self._session(write=True) as session:
            session.connection().execute(_PUT[self._engine.dialect.name], values)

    def find_measurement(self, plan: Plan, evaluation_digest: str) -> Measurement | None:
        """Return the known answer to (plan, evaluation), whoever measured it."""
        with self._session() as session:
            key = {"key_plan": plan.digest, "key_evaluation": evaluation_digest}
            found = session.connection().execute(_FIND, key).scalar()
            if found is None:
                return None
            with reading(f"The measurement of plan {plan.digest}"):
                return Measurement.from_json(found)

    def list_measurements(self, evaluation_digests: Sequence[str]) -> Sequence[Known]:
        """Return all that is known of some evaluations, by evaluation and plan digest."""
        asked = MeasurementRow.evaluation_digest.in_(evaluation_digests)
        order = (MeasurementRow.evaluation_digest, MeasurementRow.plan_digest)
        with self._session() as session:
            found = session.scalars(
                select(MeasurementRow).where(asked, MeasurementRow.plan.is_not(None)).order_by(*order)
            )
            return [known_of(row) for row in found]

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
            raise store_error(self._place, error) from error
        except LookupError as error:
            if isinstance(error, NotFoundError):
                raise
            raise store_error(self._place, error) from error  # a state that only a newer program knows

    def _migrate(self) -> None:
        with self._session() as session:
            version = stored_version(session.connection())
        if version != HEAD:
            with self._session(write=True) as session:
                upgrade(session.connection(), self._place)


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
