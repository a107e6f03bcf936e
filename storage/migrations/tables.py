"""The tables as they are now; `versions/` holds how a database gets there."""

from collections.abc import Callable
from datetime import UTC, datetime
from enum import StrEnum
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

from storage.events import EventKind
from storage.point_tasks import TaskKind, TaskState
from storage.records import JobState, TrialState
from storage.sound_records import Unreadable


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
    """One of a few words, such as the state of a job."""

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


def _stored(words: type[StrEnum]) -> StoredState:
    return StoredState(words, native_enum=False, length=16, validate_strings=True)


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
        JobState: _stored(JobState),
        TrialState: _stored(TrialState),
        TaskState: _stored(TaskState),
        TaskKind: _stored(TaskKind),
        EventKind: _stored(EventKind),
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
    label: Mapped[str | None] = mapped_column(default=None)
    note: Mapped[str | None] = mapped_column(default=None)


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


class EventRow(Base):
    """One event of a job; `seq` rises by one with each of them."""

    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    kind: Mapped[EventKind]
    at: Mapped[datetime]
    facts: Mapped[dict[str, Any]]


class TaskRow(Base):
    """One task on a point of a job's front; `position` rises with every task."""

    __tablename__ = "tasks"

    position: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, init=False)
    task_id: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[TaskKind]
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.job_id"), index=True)
    point: Mapped[str]
    trial: Mapped[int]
    options: Mapped[dict[str, Any]]
    state: Mapped[TaskState]
    created_at: Mapped[datetime]
    out: Mapped[str]
    host: Mapped[str | None]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    progress: Mapped[str]
    share_done: Mapped[float | None]
    result: Mapped[dict[str, Any] | None]
    error: Mapped[str | None]
    cancel_requested: Mapped[bool]
    user: Mapped[str | None]
    holder: Mapped[str | None]
    token: Mapped[int] = mapped_column(BigInteger)
    beat: Mapped[int] = mapped_column(BigInteger)
    deaths: Mapped[int]


class TokenRow(Base):
    """One token of a user; of its secret there is a digest."""

    __tablename__ = "tokens"

    position: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, init=False)
    token_id: Mapped[str] = mapped_column(unique=True)
    user: Mapped[str]
    scope: Mapped[str]
    digest: Mapped[str]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]


class AuditRow(Base):
    """One thing that was asked of the service and might have changed something."""

    __tablename__ = "audit"

    number: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, init=False)
    at: Mapped[datetime]
    user: Mapped[str | None]
    token_id: Mapped[str | None]
    action: Mapped[str]
    subject: Mapped[str]
    status: Mapped[int]


class AnsweredRow(Base):
    """What became of a request under its sender's key."""

    __tablename__ = "answered"

    user: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[str]
    job_id: Mapped[str]


class WebhookRow(Base):
    """An address that hears of the ends of a user's jobs."""

    __tablename__ = "webhooks"

    position: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, init=False)
    hook_id: Mapped[str] = mapped_column(unique=True)
    user: Mapped[str | None]
    url: Mapped[str]
    secret: Mapped[str]
    created_at: Mapped[datetime]


class DeliveryRow(Base):
    """The news of one end of one job for one address."""

    __tablename__ = "deliveries"

    delivery_id: Mapped[str] = mapped_column(primary_key=True)
    hook_id: Mapped[str]
    job_id: Mapped[str]
    created_at: Mapped[datetime]
    attempts: Mapped[int]
    next_at: Mapped[datetime | None]
    delivered_at: Mapped[datetime | None]
    error: Mapped[str | None]
