"""A store in SQLite or PostgreSQL: with sql_jobs.py and sql_engine.py the only door to SQLAlchemy."""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Update, bindparam, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.errors import StateError
from space.measurement import Measurement
from space.plan import Plan
from storage.migrations.tables import (
    MeasurementRow,
    TrialRow,
    known_of,
    measurement_json,
    reading,
    trial_of,
    trial_values,
)
from storage.records import Asking, Known, Trial, TrialState, check_trial_finish, finish_sources, trial_not_found
from storage.sql_jobs import SqlJobs, check_job_exists, num_changed

_TRIALS, _MEASUREMENTS = TrialRow.__table__, MeasurementRow.__table__
# What is executed for every trial is built once: building a statement takes longer than executing it.
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


class SqlStore(SqlJobs):
    """Keeps records in a database; see `Store` for the verbs. Opening it brings its tables up to date."""

    def create_trials(self, trials: Sequence[Trial]) -> None:
        """Add trials of one job, all or none. Raises NotFoundError, StateError if a number exists."""
        if not trials:
            return
        job_id = trials[0].job_id
        assert all(trial.job_id == job_id for trial in trials)  # noqa: S101 (the controller has one job)
        values = [trial_values(trial) for trial in trials]
        with self._session(write=True) as session:
            check_job_exists(session, job_id)
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
        old_states = finish_sources(state)
        key = {"key_job": job_id, "key_number": number, "key_one": old_states[0], "key_other": old_states[-1]}
        with self._session(write=True) as session:
            if not session.connection().execute(_FINISH, key | values).rowcount:
                old = _trial_state(session, job_id, number)
                check_trial_finish(job_id, number, old, state)
                raise StateError(f"Trial {number} of job {job_id} was moved by somebody else just now.")

    def set_held_out(self, job_id: str, number: int, measurement: Measurement) -> None:
        """Record a COMPLETE trial's held-out measurement. Raises NotFoundError, StateError."""
        record = _guarded(job_id, number, [TrialState.COMPLETE]).values(held_out=measurement_json(measurement))
        with self._session(write=True) as session:
            if not num_changed(session, record):
                state = _trial_state(session, job_id, number)
                raise StateError(f"Trial {number} of job {job_id} is {state}; only COMPLETE ones are held out.")

    def list_trials(self, job_id: str) -> Sequence[Trial]:
        """Return a job's trials by number. Raises NotFoundError."""
        with self._session() as session:
            check_job_exists(session, job_id)
            rows = session.scalars(select(TrialRow).where(TrialRow.job_id == job_id).order_by(TrialRow.number))
            return [trial_of(row) for row in rows]

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


def _guarded(job_id: str, number: int, old: Sequence[TrialState]) -> Update:
    return update(TrialRow).where(TrialRow.job_id == job_id, TrialRow.number == number, TrialRow.state.in_(old))


def _trial_state(session: Session, job_id: str, number: int) -> TrialState:
    state = session.scalar(select(TrialRow.state).where(TrialRow.job_id == job_id, TrialRow.number == number))
    if state is None:
        check_job_exists(session, job_id)
        raise trial_not_found(job_id, number)
    return state
