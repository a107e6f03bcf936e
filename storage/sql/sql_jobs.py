"""Jobs of a store in SQLite or PostgreSQL: their verbs, and who holds them."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Update, and_, bindparam, case, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.errors import StateError
from space.results.document import FrontDocument
from storage.events import front_news, job_news, phase_news, request_news
from storage.job_facts import JobFacts
from storage.migrations.tables import EventRow, JobRow, SummaryRow, TaskRow, TrialRow
from storage.point_tasks import TaskState
from storage.records import (
    Job,
    JobState,
    Lease,
    TrialState,
    check_deletion,
    check_job_move,
    granted,
    job_move_values,
    job_sources,
)
from storage.sound_records import reading
from storage.sql.sql_rows import job_of
from storage.sql.sql_transactions import SqlTransactions, check_job_exists, missing_job, num_changed, stored_job

if TYPE_CHECKING:
    from space.spec import JobSpec

_JOBS = JobRow.__table__
_GLANCE = select(*(c for c in _JOBS.c if c.name not in ("facts", "document"))).where(
    _JOBS.c.job_id == bindparam("key_job")
)
_BUSY = [state for state in TaskState if not state.rests]
_CLEAN = {"cancel_requested": False, "pause_requested": False}
_TURNS = (
    select(
        JobRow.user,
        func.count(case((JobRow.state == JobState.RUNNING, 1))).label("num_running"),
        func.max(JobRow.started_at).label("last"),
    )
    .group_by(JobRow.user)
    .subquery()
)
_NEXT_IN_TURN = (
    select(JobRow.position)
    .join(_TURNS, JobRow.user.is_not_distinct_from(_TURNS.c.user))
    .order_by(_TURNS.c.num_running, _TURNS.c.last.nulls_first(), JobRow.position)
)
_ASKED = or_(JobRow.cancel_requested, JobRow.pause_requested)


class SqlJobs(SqlTransactions):
    """The part of `SqlStore` that keeps jobs."""

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
            self._add_event(session.connection(), job_id, job_news(JobState.QUEUED))
            return stored_job(session, job_id)

    def get_job(self, job_id: str) -> Job:
        """Return a job. Raises NotFoundError, naming the newest jobs."""
        with self._session() as session:
            return stored_job(session, job_id)

    def glance(self, job_id: str) -> Job:
        """Return a job without its facts and document. Raises NotFoundError."""
        with self._connection() as connection:
            row = connection.execute(_GLANCE, {"key_job": job_id}).first()
            if row is None:
                raise missing_job(Session(connection), job_id)
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
            job = stored_job(session, job_id)
            if not changed:
                check_job_move(job_id, job.state, state)
                raise StateError(f"Job {job_id} was moved by somebody else just now; look at its state and try again.")
            self._add_event(session.connection(), job_id, job_news(job.state, error=job.error))
            return job

    def update_job(
        self,
        job_id: str,
        *,
        phase: str | None = None,
        facts: JobFacts | None = None,
        document: FrontDocument | None = None,
    ) -> None:
        """Set what is given; the facts that are given replace those of before. Raises NotFoundError."""
        with self._session(write=True) as session:
            values = _changes(session, job_id, phase, facts, document)
            if not values or not num_changed(session, update(JobRow).where(JobRow.job_id == job_id).values(values)):
                check_job_exists(session, job_id)
                return
            if "phase" in values:
                self._add_event_if_new(session.connection(), job_id, phase_news(values["phase"]))
            if document is not None:
                self._add_event_if_new(session.connection(), job_id, front_news(document))

    def describe_job(self, job_id: str, label: str | None, note: str | None) -> None:
        """Set what people call a job and note of it. Raises NotFoundError."""
        with self._session(write=True) as session:
            if not num_changed(session, update(JobRow).where(JobRow.job_id == job_id).values(label=label, note=note)):
                check_job_exists(session, job_id)

    def request_cancel(self, job_id: str) -> None:
        """Ask a job to stop; a QUEUED or PAUSED one is CANCELLED at once. Raises NotFoundError."""
        waits = JobRow.state.in_([JobState.QUEUED, JobState.PAUSED])
        runs = and_(JobRow.state == JobState.RUNNING, ~JobRow.cancel_requested)
        values = {
            "cancel_requested": True,
            "state": case((waits, JobState.CANCELLED), else_=JobRow.state),
            "finished_at": case((waits, datetime.now(UTC)), else_=JobRow.finished_at),
        }
        self._request(job_id, "cancel", update(JobRow).where(or_(waits, runs)).values(values))

    def request_pause(self, job_id: str) -> None:
        """Ask a job to stop for a while; a QUEUED one is PAUSED at once. Raises NotFoundError."""
        queued = JobRow.state == JobState.QUEUED
        runs = and_(JobRow.state == JobState.RUNNING, ~JobRow.pause_requested)
        values = {
            "state": case((queued, JobState.PAUSED), else_=JobRow.state),
            "pause_requested": case((queued, False), else_=True),
        }
        self._request(job_id, "pause", update(JobRow).where(or_(queued, runs)).values(values))

    def _request(self, job_id: str, name: str, change: Update) -> None:
        """Make a guarded change of a job, and tell it where a row was changed."""
        change = change.where(JobRow.job_id == job_id).returning(JobRow.state)
        with self._session(write=True) as session:
            state = session.scalar(change, execution_options={"synchronize_session": False})
            if state is None:
                check_job_exists(session, job_id)
                return
            news = request_news(name) if state is JobState.RUNNING else job_news(state)
            self._add_event(session.connection(), job_id, news)

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
                self._add_event(session.connection(), job_id, job_news(JobState.QUEUED))
            elif num_changed(session, update(JobRow).where(JobRow.job_id == job_id, _ASKED).values(_CLEAN)):
                self._add_event(session.connection(), job_id, request_news("resume"))
            return stored_job(session, job_id)

    def delete_job(self, job_id: str) -> None:
        """Delete a job that rests, with its trials, events and tasks. Raises NotFoundError, StateError."""
        busy = select(TaskRow.task_id).where(TaskRow.job_id == job_id, TaskRow.state.in_(_BUSY))
        with self._session(write=True) as session:
            session.scalars(select(TaskRow.position).where(TaskRow.job_id == job_id).with_for_update()).all()
            session.execute(select(JobRow.position).where(JobRow.job_id == job_id).with_for_update())
            check_deletion(job_id, stored_job(session, job_id).state, len(session.scalars(busy).all()))
            for table in (TaskRow, EventRow, SummaryRow, TrialRow, JobRow):
                session.execute(delete(table).where(table.job_id == job_id))

    def claim_job(self, holder: str, job_id: str | None = None) -> Lease | None:
        """Claim a QUEUED job, the one whose turn it is unless one is named. Raises NotFoundError."""
        queued = JobRow.state == JobState.QUEUED
        first = select(JobRow.position).where(JobRow.job_id == job_id) if job_id is not None else _NEXT_IN_TURN
        first = first.where(queued).limit(1)
        if self._engine.dialect.name == "postgresql":  # SQLite ignores it, and needs none: one writes at a time
            first = first.with_for_update(of=JobRow, skip_locked=job_id is None)
        return self._claim(update(JobRow).where(JobRow.position == first.scalar_subquery(), queued), holder, job_id)

    def take_over(self, job: Job, holder: str) -> Lease | None:
        """Claim a RUNNING job whose lease was not renewed since it was read."""
        return self._claim(update(JobRow).where(JobRow.job_id == job.job_id, _as_seen(job)), holder)

    def _claim(self, claim: Update, holder: str, job_id: str | None = None) -> Lease | None:
        """Claim the job of a guarded UPDATE, in that one statement; None where it changes no row."""
        values = job_move_values(JobState.RUNNING, datetime.now(UTC), None)
        claim = claim.values(holder=holder, token=JobRow.token + 1, beat=0, **values)
        options = {"synchronize_session": False}
        with self._session(write=True) as session:
            found = session.execute(claim.returning(JobRow.job_id, JobRow.token), execution_options=options).first()
            if found is None:
                if job_id is not None:
                    check_job_exists(session, job_id)
                return None
            self._add_event(session.connection(), found.job_id, job_news(JobState.RUNNING, holder=holder))
            return Lease(found.job_id, holder, found.token)


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


def _changes(
    session: Session, job_id: str, phase: str | None, facts: JobFacts | None, document: FrontDocument | None
) -> dict[str, Any]:
    """Return the columns of a job to set; facts are merged with what is there, which only they need and is large."""
    values: dict[str, Any] = {} if phase is None else {"phase": phase}
    if document is not None:
        values["document"] = document.to_json()
    if facts is not None:
        kept = session.scalar(select(JobRow.facts).where(JobRow.job_id == job_id).with_for_update(key_share=True))
        values["facts"] = {**(kept or {}), **facts.to_json()}
    return values
