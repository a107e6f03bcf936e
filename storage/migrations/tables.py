"""The tables as they are now, and records from and to their rows; `versions/` holds how a database gets there."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Enum,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Text,
    TypeDecorator,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column
from sqlalchemy.types import TypeEngine

from space.measurement import Measurement
from space.plan import Plan
from storage.job_summary import Overview
from storage.records import Asking, Job, JobState, Known, Trial, TrialState
from storage.sound_records import (
    Unreadable,
    readable,
    reading,
    sound,
    sound_document,
    sound_facts,
    sound_measurement,
    sound_spec,
    sound_summary,
)


class Readable(TypeDecorator[Any]):
    """A column that can always be read: who knows the row's name says which one holds something `Unreadable`."""

    impl: TypeEngine[Any] | type[TypeEngine[Any]] = Text
    cache_ok = True

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """Return what makes a value of what the database gives."""
        process = super().result_processor(dialect, coltype)

        def read(value: Any) -> Any:
            try:
                return value if process is None else process(value)
            except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
                return Unreadable(str(error))

        return read


class StoredJson(Readable):
    """A JSON value."""

    impl = JSON
    cache_ok = True


class StoredState(Readable):
    """A state of a job or a trial."""

    impl = Enum
    cache_ok = True


class Words(TypeDecorator[str]):
    """Text from anywhere (a worker's error, a command line): what PostgreSQL cannot hold becomes a replacement mark."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Replace lone surrogates and the NUL character."""
        return None if value is None else value.encode(errors="replace").decode().replace("\x00", "\ufffd")


class UtcDateTime(Readable):
    """An instant in UTC; SQLite keeps no zone, so it is taken off and put back here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the instant in UTC."""
        assert value is None or value.tzinfo is not None  # noqa: S101 (we make every instant with a zone)
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Return the instant in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(MappedAsDataclass, DeclarativeBase):
    """The tables; JSON stays text on PostgreSQL too, since JSONB would forget the order of a plan's modules."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy reads it)
        str: Words(),
        datetime: UtcDateTime(),
        dict[str, Any]: StoredJson(none_as_null=True),
        JobState: StoredState(JobState, native_enum=False, length=16, validate_strings=True),
        TrialState: StoredState(TrialState, native_enum=False, length=16, validate_strings=True),
    }


class JobRow(Base):
    """One job; `position` rises with every job, so that "newest first" does not trust the clock."""

    __tablename__ = "jobs"

    position: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, init=False)
    job_id: Mapped[str] = mapped_column(unique=True)
    spec: Mapped[dict[str, Any]]
    state: Mapped[JobState]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    phase: Mapped[str]
    error: Mapped[str | None]
    cancel_requested: Mapped[bool]
    pause_requested: Mapped[bool]
    user: Mapped[str | None]
    holder: Mapped[str | None]
    token: Mapped[int] = mapped_column(BigInteger)
    beat: Mapped[int] = mapped_column(BigInteger)
    facts: Mapped[dict[str, Any]]
    document: Mapped[dict[str, Any] | None]


class SummaryRow(Base):
    """How far a job is: apart from its row, which holds facts and a front and is far larger."""

    __tablename__ = "summaries"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    value: Mapped[dict[str, Any]]


class TrialRow(Base):
    """One trial of a job."""

    __tablename__ = "trials"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    plan: Mapped[dict[str, Any]]
    origin: Mapped[str]
    state: Mapped[TrialState]
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    measurement: Mapped[dict[str, Any] | None]
    held_out: Mapped[dict[str, Any] | None]
    sampler_state: Mapped[dict[str, Any]]
    reason: Mapped[str | None]


class MeasurementRow(Base):
    """The answer to one question: this plan under this evaluation."""

    __tablename__ = "measurements"

    plan_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    evaluation_digest: Mapped[str] = mapped_column(String(64), primary_key=True, index=True)
    measurement: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]
    plan: Mapped[dict[str, Any] | None]
    origin: Mapped[str | None]
    base: Mapped[dict[str, Any] | None]


def job_of(row: Any, *, whole: bool = True) -> Job:
    """Return a row's record, with facts and document where it is to be whole. Raises StoreError."""
    with reading(f"Job {row.job_id}"):
        return sound(
            Job(
                job_id=row.job_id,
                spec=sound_spec(row.spec),
                state=row.state,
                created_at=row.created_at,
                started_at=row.started_at,
                finished_at=row.finished_at,
                phase=row.phase,
                error=row.error,
                cancel_requested=row.cancel_requested,
                pause_requested=row.pause_requested,
                user=row.user,
                holder=row.holder,
                token=row.token,
                beat=row.beat,
                facts=sound_facts(row.facts) if whole else {},
                document=sound_document(row.job_id, row.document) if whole and row.document is not None else None,
            )
        )


def overview_of(row: Any) -> Overview:
    """Return a job's overview of a row with its summary's value. Raises StoreError."""
    with reading(f"Job {row.job_id}"):
        return sound(
            Overview(
                job_id=row.job_id,
                state=row.state,
                model=row.spec["model"],
                budget=row.spec["budget"],
                created_at=row.created_at,
                started_at=row.started_at,
                finished_at=row.finished_at,
                phase=row.phase,
                error=row.error,
                user=row.user,
                holder=row.holder,
                summary=None if row.value is None else sound_summary(row.value),
            )
        )


def trial_of(row: TrialRow) -> Trial:
    """Return a row's record. Raises StoreError."""
    with reading(f"Trial {row.number} of job {row.job_id}"):
        return sound(
            Trial(
                job_id=row.job_id,
                number=row.number,
                plan=Plan.from_json(readable(row.plan)),
                origin=row.origin,
                state=row.state,
                size_bytes=row.size_bytes,
                measurement=None if row.measurement is None else sound_measurement(row.measurement),
                held_out=None if row.held_out is None else sound_measurement(row.held_out),
                sampler_state=row.sampler_state,
                reason=row.reason,
            )
        )


def known_of(row: MeasurementRow) -> Known:
    """Return a row's record; the row has a plan. Raises StoreError."""
    with reading(f"The measurement of plan {row.plan_digest}"):
        base = None if row.base is None else Plan.from_json(row.base)
        asking = None if row.origin is None else Asking(row.origin, base)
        measured = sound_measurement(row.measurement)
        return Known(Plan.from_json(row.plan or {}), row.evaluation_digest, measured, asking)


def trial_values(trial: Trial) -> dict[str, Any]:
    """Return the columns of a trial."""
    return {
        "job_id": trial.job_id,
        "number": trial.number,
        "plan": trial.plan.to_json(),
        "origin": trial.origin,
        "state": trial.state,
        "size_bytes": trial.size_bytes,
        "measurement": measurement_json(trial.measurement),
        "held_out": measurement_json(trial.held_out),
        "sampler_state": trial.sampler_state,
        "reason": trial.reason,
    }


def measurement_json(measurement: Measurement | None) -> dict[str, Any] | None:
    """Return the column of a measurement."""
    return None if measurement is None else measurement.to_json()
