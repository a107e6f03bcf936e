"""Tasks on points of fronts, of a store in SQLite or PostgreSQL."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Update, and_, case, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from space.errors import StateError
from storage.events import task_news
from storage.migrations.tables import TaskRow
from storage.point_tasks import (
    NewTask,
    PointTask,
    TaskLease,
    TaskState,
    claim_values,
    granted_task_move,
    held_by,
    task_move_values,
    task_not_running,
)
from storage.sql.sql_rows import task_of, task_values
from storage.sql.sql_transactions import SqlTransactions, check_job_exists, num_changed, stored_task

_QUEUED, _RUNNING = TaskRow.state == TaskState.QUEUED, TaskRow.state == TaskState.RUNNING


class SqlTasks(SqlTransactions):
    """The part of `SqlStore` that keeps tasks. Their rows are locked before their job's, by every verb."""

    def create_task(self, task_id: str, asked: NewTask, holder: str | None = None) -> PointTask:
        """Create a task, QUEUED, or claimed by its holder. Raises NotFoundError, StateError."""
        task = asked.queued(task_id) if holder is None else held_by(asked.queued(task_id), holder)
        with self._session(write=True) as session:
            check_job_exists(session, task.job_id)
            self._lock_job(session.connection(), task.job_id)
            try:
                session.execute(insert(TaskRow), [task_values(task)])
            except IntegrityError as error:
                raise StateError(f"Task {task_id} exists already; choose another id.") from error
            return self._told(session, task_id)

    def get_task(self, task_id: str) -> PointTask:
        """Return a task. Raises NotFoundError, naming the newest tasks."""
        with self._session() as session:
            return stored_task(session, task_id)

    def list_tasks(self, job_id: str | None = None, states: Collection[TaskState] | None = None) -> Sequence[PointTask]:
        """Return tasks, newest first. Raises NotFoundError for the job."""
        found = select(TaskRow).order_by(TaskRow.position.desc())
        found = found if states is None else found.where(TaskRow.state.in_(states))
        with self._session() as session:
            if job_id is not None:
                check_job_exists(session, job_id)
                found = found.where(TaskRow.job_id == job_id)
            return [task_of(row) for row in session.scalars(found)]

    def claim_task(self, holder: str, host: str, task_id: str | None = None) -> TaskLease | None:
        """Claim a QUEUED task, the oldest that may run here unless one is named. Raises NotFoundError."""
        here = or_(TaskRow.host.is_(None), TaskRow.host == host) if task_id is None else TaskRow.task_id == task_id
        first = select(TaskRow.position).where(_QUEUED, here).order_by(TaskRow.position).limit(1)
        if self._engine.dialect.name == "postgresql":  # SQLite ignores it, and needs none: one writes at a time
            first = first.with_for_update(skip_locked=task_id is None)
        return self._claim_task(
            update(TaskRow).where(TaskRow.position == first.scalar_subquery(), _QUEUED), holder, task_id
        )

    def take_over_task(self, task: PointTask, holder: str) -> TaskLease | None:
        """Claim a RUNNING task whose lease was not renewed since it was read, and count a death."""
        silent = update(TaskRow).where(TaskRow.task_id == task.task_id, _as_seen(task))
        return self._claim_task(silent.values(deaths=TaskRow.deaths + 1), holder)

    def update_task(
        self,
        task_id: str,
        *,
        progress: str | None = None,
        share_done: float | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Set what is given. Raises NotFoundError."""
        given = {"progress": progress, "share_done": share_done, "result": result}
        values = {name: value for name, value in given.items() if value is not None}
        with self._session(write=True) as session:
            if values and num_changed(session, update(TaskRow).where(TaskRow.task_id == task_id).values(values)):
                self._told(session, task_id)
            else:
                stored_task(session, task_id)

    def set_task_state(self, task_id: str, state: TaskState, error: str | None = None) -> PointTask:
        """Move a RUNNING task. Raises NotFoundError, StateError."""
        with self._session(write=True) as session:
            asked = session.scalar(select(TaskRow.cancel_requested).where(TaskRow.task_id == task_id).with_for_update())
            state = granted_task_move(state, cancel_requested=bool(asked))
            values = task_move_values(state, datetime.now(UTC), error)
            if not num_changed(session, update(TaskRow).where(TaskRow.task_id == task_id, _RUNNING).values(values)):
                raise task_not_running(stored_task(session, task_id))
            return self._told(session, task_id)

    def request_cancel_task(self, task_id: str) -> None:
        """Ask a task to stop; a QUEUED one is CANCELLED at once. Raises NotFoundError."""
        values = {
            "cancel_requested": True,
            "state": case((_QUEUED, TaskState.CANCELLED), else_=TaskRow.state),
            "finished_at": case((_QUEUED, datetime.now(UTC)), else_=TaskRow.finished_at),
        }
        asks = or_(_QUEUED, and_(_RUNNING, ~TaskRow.cancel_requested))
        with self._session(write=True) as session:
            if num_changed(session, update(TaskRow).where(TaskRow.task_id == task_id, asks).values(values)):
                self._told(session, task_id)
            else:
                stored_task(session, task_id)

    def resume_task(self, task_id: str, seen: PointTask | None = None) -> PointTask:
        """Queue a FAILED or CANCELLED task again, or one whose controller has gone. Raises NotFoundError."""
        rests = TaskRow.state.in_([TaskState.FAILED, TaskState.CANCELLED])
        can = rests if seen is None else or_(rests, _as_seen(seen))
        mine = update(TaskRow).where(TaskRow.task_id == task_id)
        again = mine.where(can).values(deaths=0, **task_move_values(TaskState.QUEUED, datetime.now(UTC), None))
        goes_on = mine.where(_RUNNING, TaskRow.cancel_requested).values(cancel_requested=False)
        with self._session(write=True) as session:
            if num_changed(session, again) or num_changed(session, goes_on):
                return self._told(session, task_id)
            return stored_task(session, task_id)

    def _claim_task(self, claim: Update, holder: str, task_id: str | None = None) -> TaskLease | None:
        """Claim the task of a guarded UPDATE, in that one statement; None where it changes no row."""
        claim = claim.values(token=TaskRow.token + 1, **claim_values(holder, datetime.now(UTC)))
        options = {"synchronize_session": False}
        with self._session(write=True) as session:
            found = session.execute(claim.returning(TaskRow.task_id, TaskRow.token), execution_options=options).first()
            if found is None:
                if task_id is not None:
                    stored_task(session, task_id)
                return None
            self._told(session, found.task_id)
            return TaskLease(found.task_id, holder, found.token)

    def _told(self, session: Session, task_id: str) -> PointTask:
        """Add an event of a task as it is now; return the task."""
        task = stored_task(session, task_id)
        self._add_event(session.connection(), task.job_id, task_news(task))
        return task


def _as_seen(task: PointTask) -> ColumnElement[bool]:
    return and_(_RUNNING, TaskRow.token == task.token, TaskRow.beat == task.beat)
