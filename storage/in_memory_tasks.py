"""Events and tasks of a store in memory, who may write to it, and copies of its records."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from threading import RLock
from typing import Any, Self

from space.errors import StateError
from space.measurement import Measurement
from storage.events import MAX_EVENTS, Event, News, task_news
from storage.job_facts import JobFacts
from storage.point_tasks import (
    NewTask,
    PointTask,
    TaskLease,
    TaskState,
    granted_task_move,
    held_by,
    task_lease_lost,
    task_move_values,
    task_not_found,
    task_not_running,
)
from storage.records import Job, JobState, Lease, Trial, job_not_found, json_copy, lease_lost
from storage.sampler_state import SamplerState

_NUM_NEWEST = 5


class MemoryTasks:
    """The part of `MemoryStore` that keeps events and tasks."""

    def __init__(self) -> None:
        """Make an empty store."""
        self._lock = RLock()
        self._jobs: dict[str, Job] = {}
        self._events: dict[str, list[Event]] = {}
        self._tasks: dict[str, PointTask] = {}
        self._lease: Lease | TaskLease | None = None

    def renew(self, lease: Lease | TaskLease) -> None:
        """Count one more beat of a lease. Raises LeaseLostError."""
        with self._lock:
            self._check(lease)
            if isinstance(lease, TaskLease):
                task = self._tasks[lease.task_id]
                self._tasks[lease.task_id] = replace(task, beat=task.beat + 1)
            else:
                job = self._jobs[lease.job_id]
                self._jobs[lease.job_id] = replace(job, beat=job.beat + 1)

    def holding(self, lease: Lease | TaskLease) -> Self:
        """Return this store for the controller of a job or task: every write first checks the lease."""
        held = copy(self)
        held._lease = lease  # noqa: SLF001 (our own copy)
        return held

    def list_events(self, job_id: str, after: int = 0, limit: int = MAX_EVENTS) -> Sequence[Event]:
        """Return a job's events of higher numbers, by number, at most so many. Raises NotFoundError."""
        with self._lock:
            self._job(job_id)
            found = self._events.get(job_id, [])[max(after, 0) :][:limit]
            return [replace(event, facts=json_copy(event.facts)) for event in found]

    def describe_job(self, job_id: str, label: str | None, note: str | None) -> None:
        """Set what people call a job and note of it. Raises NotFoundError."""
        with self._writing():
            self._jobs[job_id] = replace(self._job(job_id), label=label, note=note)

    def create_task(self, task_id: str, asked: NewTask, holder: str | None = None) -> PointTask:
        """Create a task, QUEUED, or claimed by its holder. Raises NotFoundError, StateError."""
        with self._writing():
            self._job(asked.job_id)
            if task_id in self._tasks:
                raise StateError(f"Task {task_id} exists already; choose another id.")
            task = _copied(asked.queued(task_id))
            return self._put(task if holder is None else held_by(task, holder))

    def get_task(self, task_id: str) -> PointTask:
        """Return a task. Raises NotFoundError, naming the newest tasks."""
        with self._lock:
            if task_id not in self._tasks:
                raise task_not_found(task_id, list(reversed(self._tasks))[:_NUM_NEWEST])
            return _copied(self._tasks[task_id])

    def list_tasks(self, job_id: str | None = None, states: Collection[TaskState] | None = None) -> Sequence[PointTask]:
        """Return tasks, newest first. Raises NotFoundError for the job."""
        with self._lock:
            if job_id is not None:
                self._job(job_id)
            found = [task for task in reversed(self._tasks.values()) if job_id in (None, task.job_id)]
            return [_copied(task) for task in found if states is None or task.state in states]

    def claim_task(self, holder: str, host: str, task_id: str | None = None) -> TaskLease | None:
        """Claim a QUEUED task, the oldest that may run here unless one is named. Raises NotFoundError."""
        with self._writing():
            here = [task for task in self._tasks.values() if task.host in (None, host)]
            tasks = here if task_id is None else [self.get_task(task_id)]
            task = next((task for task in tasks if task.state is TaskState.QUEUED), None)
            return None if task is None else self._claim_task(task, holder)

    def take_over_task(self, task: PointTask, holder: str) -> TaskLease | None:
        """Claim a RUNNING task whose lease was not renewed since it was read, and count a death."""
        with self._writing():
            now = self.get_task(task.task_id)
            return self._claim_task(replace(now, deaths=now.deaths + 1), holder) if _is_as_seen(now, task) else None

    def update_task(
        self,
        task_id: str,
        *,
        progress: str | None = None,
        share_done: float | None = None,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Set what is given. Raises NotFoundError."""
        given = {"progress": progress, "share_done": share_done, "result": json_copy(result)}
        values = {name: value for name, value in given.items() if value is not None}
        with self._writing():
            task = self.get_task(task_id)
            if values:
                self._put(replace(task, **values))

    def set_task_state(self, task_id: str, state: TaskState, error: str | None = None) -> PointTask:
        """Move a RUNNING task. Raises NotFoundError, StateError."""
        with self._writing():
            task = self.get_task(task_id)
            if task.state is not TaskState.RUNNING:
                raise task_not_running(task)
            state = granted_task_move(state, cancel_requested=task.cancel_requested)
            return self._put(replace(task, **task_move_values(state, datetime.now(UTC), error)))

    def request_cancel_task(self, task_id: str) -> None:
        """Ask a task to stop; a QUEUED one is CANCELLED at once. Raises NotFoundError."""
        with self._writing():
            task = self.get_task(task_id)
            if task.state is TaskState.QUEUED:
                task = replace(task, **task_move_values(TaskState.CANCELLED, datetime.now(UTC), None))
                self._put(replace(task, cancel_requested=True))
            elif task.state is TaskState.RUNNING and not task.cancel_requested:
                self._put(replace(task, cancel_requested=True))

    def resume_task(self, task_id: str, seen: PointTask | None = None) -> PointTask:
        """Queue a FAILED or CANCELLED task again, or one whose controller has gone. Raises NotFoundError."""
        with self._writing():
            task = self.get_task(task_id)
            if task.state in (TaskState.FAILED, TaskState.CANCELLED) or (seen and _is_as_seen(task, seen)):
                task = replace(task, deaths=0, **task_move_values(TaskState.QUEUED, datetime.now(UTC), None))
            elif task.state is TaskState.RUNNING and task.cancel_requested:
                task = replace(task, cancel_requested=False)
            else:
                return task
            return self._put(task)

    def _claim_task(self, task: PointTask, holder: str) -> TaskLease:
        claimed = self._put(held_by(task, holder))
        return TaskLease(claimed.task_id, holder, claimed.token)

    def _put(self, task: PointTask) -> PointTask:
        """Keep a task as it is now, and tell it."""
        self._tasks[task.task_id] = task
        self._add_event(task.job_id, task_news(task))
        return _copied(task)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._lock:
            if self._lease is not None:
                self._check(self._lease)
            yield

    def _check(self, lease: Lease | TaskLease) -> None:
        if isinstance(lease, TaskLease):
            task = self.get_task(lease.task_id)
            if task.state is not TaskState.RUNNING or task.token != lease.token:
                raise task_lease_lost(lease, task)
            return
        job = self._job(lease.job_id)
        if job.state is not JobState.RUNNING or job.token != lease.token:
            raise lease_lost(lease, job)

    def _job(self, job_id: str) -> Job:
        if job_id not in self._jobs:
            raise job_not_found(job_id, list(reversed(self._jobs))[:_NUM_NEWEST])
        return self._jobs[job_id]

    def _add_event(self, job_id: str, news: News) -> None:
        events = self._events.setdefault(job_id, [])
        events.append(Event(job_id, len(events) + 1, news.kind, datetime.now(UTC), json_copy(news.facts)))

    def _add_event_if_new(self, job_id: str, news: News) -> None:
        """Add an event unless the job's last one of its kind tells the same."""
        last = next((event for event in reversed(self._events.get(job_id, [])) if event.kind is news.kind), None)
        if last is None or last.facts != json_copy(news.facts):
            self._add_event(job_id, news)


def _is_as_seen(task: PointTask, seen: PointTask) -> bool:
    return task.state is TaskState.RUNNING and (task.token, task.beat) == (seen.token, seen.beat)


def _copied(task: PointTask) -> PointTask:
    return replace(task, options=json_copy(task.options), result=json_copy(task.result))


def copied_facts(facts: JobFacts) -> JobFacts:
    """Return facts as they come back from JSON. Raises StoreError."""
    return JobFacts.from_json(json_copy(facts.to_json()))


def copied_trial(trial: Trial) -> Trial:
    """Return a trial as it comes back from JSON. Raises StoreError."""
    return replace(
        trial,
        measurement=copied_measurement(trial.measurement),
        held_out=copied_measurement(trial.held_out),
        sampler_state=SamplerState.from_json(json_copy(trial.sampler_state.to_json())),
    )


def copied_measurement(measurement: Measurement | None) -> Measurement | None:
    """Return a measurement as it comes back from JSON. Raises StoreError."""
    return None if measurement is None else Measurement.from_json(json_copy(measurement.to_json()))
