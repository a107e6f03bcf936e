"""A store in SQLite or PostgreSQL: trials and measurements, and all the rest by its parts."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Update, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.errors import StateError
from space.measurement import Measurement
from space.plan import Plan
from storage.events import trial_news
from storage.migrations.tables import MeasurementRow, TrialRow
from storage.records import Known, Trial, TrialState, check_trial_finish, finish_sources, trial_not_found
from storage.sound_records import readable, reading, sound_measurement
from storage.sql.sql_jobs import SqlJobs
from storage.sql.sql_overviews import SqlOverviews
from storage.sql.sql_people import SqlPeople
from storage.sql.sql_rows import known_of, measurement_json, trial_of, trial_values
from storage.sql.sql_tasks import SqlTasks
from storage.sql.sql_transactions import check_job_exists, num_changed

_TRIALS, _MEASUREMENTS = TrialRow.__table__, MeasurementRow.__table__
# What is executed for every trial is built once: building a statement takes longer than executing it.
_FINISH = (
    update(TrialRow.__table__)  # type: ignore[arg-type]
    .where(_TRIALS.c.job_id == bindparam("key_job"), _TRIALS.c.number == bindparam("key_number"))
    .where(or_(_TRIALS.c.state == bindparam("key_one"), _TRIALS.c.state == bindparam("key_other")))
    .values({name: bindparam(name) for name in ("state", "measurement", "reason")})
    .returning(_TRIALS.c.origin, _TRIALS.c.size_bytes)
)
_FIND = select(_MEASUREMENTS.c.plan_digest, _MEASUREMENTS.c.measurement).where(
    _MEASUREMENTS.c.evaluation_digest == bindparam("key_evaluation"),
    _MEASUREMENTS.c.plan_digest.in_(bindparam("key_plans", expanding=True)),
)
_NUM_FOUND = 500  # keys of one statement
_PUT = {d.__name__.rpartition(".")[2]: d.insert(MeasurementRow).on_conflict_do_nothing() for d in (sqlite, postgresql)}


class SqlStore(SqlJobs, SqlOverviews, SqlTasks, SqlPeople):
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
        known: Known | None = None,
    ) -> None:
        """Move a trial (WAITING trials start through RUNNING). Raises NotFoundError, StateError."""
        values = {"state": state, "measurement": measurement_json(measurement), "reason": reason}
        old_states = finish_sources(state)
        key = {"key_job": job_id, "key_number": number, "key_one": old_states[0], "key_other": old_states[-1]}
        with self._connection(write=True) as connection:
            self._lock_job(connection, job_id)
            found = connection.execute(_FINISH, key | values).first()
            if found is None:
                old = _trial_state(Session(connection), job_id, number)
                check_trial_finish(job_id, number, old, state)
                raise StateError(f"Trial {number} of job {job_id} was moved by somebody else just now.")
            if known is not None:
                connection.execute(_PUT[connection.dialect.name], _measurement_values(known))
            news = trial_news(number, state, found.origin, found.size_bytes, measurement, reason)
            self._add_event(connection, job_id, news)

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

    def page_trials(self, job_id: str, after: int, limit: int) -> tuple[Sequence[Trial], int]:
        """Return a job's trials of higher numbers, at most so many, and how many it has. Raises NotFoundError."""
        ours = TrialRow.job_id == job_id
        page = select(TrialRow).where(ours, TrialRow.number > after).order_by(TrialRow.number).limit(limit)
        with self._session() as session:
            check_job_exists(session, job_id)
            count = session.scalar(select(func.count()).select_from(TrialRow).where(ours))
            return [trial_of(row) for row in session.scalars(page)], count or 0

    def put_measurement(self, known: Known) -> None:
        """Remember a measurement under its key for all jobs, and who asked for it; an existing one is kept."""
        with self._connection(write=True) as connection:
            connection.execute(_PUT[connection.dialect.name], _measurement_values(known))

    def find_measurements(self, keys: Sequence[tuple[Plan, str]]) -> Sequence[Measurement | None]:
        """Return the known answer to each (plan, evaluation digest), whoever measured it."""
        found: dict[tuple[str, str], Measurement] = {}
        with self._connection() as connection:
            for evaluation in dict.fromkeys(evaluation for _, evaluation in keys):
                plans = [plan.digest for plan, asked in keys if asked == evaluation]
                for start in range(0, len(plans), _NUM_FOUND):
                    part = {"key_evaluation": evaluation, "key_plans": plans[start : start + _NUM_FOUND]}
                    for digest, value in connection.execute(_FIND, part):
                        with reading(f"The measurement of plan {digest}"):
                            found[digest, evaluation] = sound_measurement(value)
        return [found.get((plan.digest, evaluation)) for plan, evaluation in keys]

    def list_measurements(self, evaluation_digests: Sequence[str]) -> Sequence[Known]:
        """Return all that is known of some evaluations, by evaluation and plan digest."""
        asked = MeasurementRow.evaluation_digest.in_(evaluation_digests)
        order = (MeasurementRow.evaluation_digest, MeasurementRow.plan_digest)
        with self._session() as session:
            found = session.scalars(
                select(MeasurementRow).where(asked, MeasurementRow.plan.is_not(None)).order_by(*order)
            )
            return [known_of(row) for row in found]


def _measurement_values(known: Known) -> dict[str, Any]:
    """Return the columns of a measurement."""
    plan, asking = known.plan, known.asking
    return {
        "plan_digest": plan.digest,
        "evaluation_digest": known.evaluation_digest,
        "measurement": measurement_json(known.measurement),
        "created_at": datetime.now(UTC),
        "plan": plan.to_json(),
        "origin": asking.origin if asking else None,
        "base": asking.base.to_json() if asking and asking.base else None,
    }


def _guarded(job_id: str, number: int, old: Sequence[TrialState]) -> Update:
    return update(TrialRow).where(TrialRow.job_id == job_id, TrialRow.number == number, TrialRow.state.in_(old))


def _trial_state(session: Session, job_id: str, number: int) -> TrialState:
    state = session.scalar(select(TrialRow.state).where(TrialRow.job_id == job_id, TrialRow.number == number))
    if state is None:
        check_job_exists(session, job_id)
        raise trial_not_found(job_id, number)
    with reading(f"Trial {number} of job {job_id}"):
        readable(state)
    return state
