"""The contract of a store, as far as events and tasks on a chosen point go."""

from collections.abc import Collection, Sequence
from typing import Any, Protocol

from storage.events import MAX_EVENTS, Event
from storage.point_tasks import NewTask, PointTask, TaskLease, TaskState


class TaskStore(Protocol):
    """Remembers what happens to each job, and the tasks on points of its front.

    Every verb of a store that changes a job's state, phase or front, ends a trial or moves a task writes the event that
    tells so in the same transaction. Events of one job become known in the order of their numbers: who read up to one
    has missed none before it.
    """

    def list_events(self, job_id: str, after: int = 0, limit: int = MAX_EVENTS) -> Sequence[Event]:
        """Return a job's events of higher numbers than `after`, by number, at most so many. Raises NotFoundError."""

    def create_task(self, task_id: str, asked: NewTask, holder: str | None = None) -> PointTask:
        """Create a task, QUEUED; or RUNNING and claimed by a holder that does it itself.

        Raises NotFoundError for an unknown job, StateError if the id exists.
        """

    def get_task(self, task_id: str) -> PointTask:
        """Return a task. Raises NotFoundError, naming the newest tasks."""

    def list_tasks(self, job_id: str | None = None, states: Collection[TaskState] | None = None) -> Sequence[PointTask]:
        """Return all tasks, or those of a job or in some states, newest first. Raises NotFoundError for the job."""

    def claim_task(self, holder: str, host: str, task_id: str | None = None) -> TaskLease | None:
        """Claim a QUEUED task and make it RUNNING; None where there is none.

        The oldest that may run on the host is taken, unless one is named: whoever names it knows where its folder lies.
        Raises NotFoundError for an unknown name.
        """

    def take_over_task(self, task: PointTask, holder: str) -> TaskLease | None:
        """Claim a RUNNING task whose lease was not renewed since `task` was read, and count a death; else None."""

    def update_task(
        self,
        task_id: str,
        *,
        progress: str | None = None,
        share_done: float | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Set what is given. Raises NotFoundError."""

    def set_task_state(self, task_id: str, state: TaskState, error: str | None = None) -> PointTask:
        """Move a task that is RUNNING: to its end, or QUEUED where it is given back.

        One that is given back while somebody asks it to stop is CANCELLED. Raises NotFoundError, StateError.
        """

    def request_cancel_task(self, task_id: str) -> None:
        """Ask a task to stop; a QUEUED one is CANCELLED at once, one that rests is left alone. Idempotent.

        Raises NotFoundError.
        """

    def resume_task(self, task_id: str, seen: PointTask | None = None) -> PointTask:
        """Queue a FAILED or CANCELLED task again, its deaths forgotten; take back a request to stop.

        A RUNNING one is left alone, unless it still is as it was `seen`: its controller is gone then, for which the
        caller vouches. A DONE one stays so. Idempotent. Raises NotFoundError.
        """
