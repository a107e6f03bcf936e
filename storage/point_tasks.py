"""Tasks on a chosen point of a job's front, such as its export: asked for, held by a controller, done or not."""

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from space.errors import LeaseLostError, NotFoundError, StateError
from storage.records import told_holder


class TaskKind(StrEnum):
    """What is done with a point."""

    EXPORT = "export"
    RECOVER = "recover"


class TaskState(StrEnum):
    """Where a task is; FAILED and CANCELLED ones may be queued again."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def rests(self) -> bool:
        """Tell whether nothing happens any more without a new request."""
        return self not in (TaskState.QUEUED, TaskState.RUNNING)


@dataclass(frozen=True, slots=True)
class PointTask:
    """Something that is done with one point of a job's front.

    Attributes:
        task_id: short name, unique in the store.
        kind: what is done.
        job_id: whose front it is.
        point: the point's name on the front that it was chosen from; a later front may name another one so.
        trial: the number of the point's trial, which says for ever what was chosen.
        options: how it is done, of the kind (JSON).
        state: where it is.
        created_at: UTC.
        out: the folder that it makes, whole or not at all; empty where it makes none.
        host: the only host that may run it, where its folder lies there; None: any.
        started_at: UTC, of the last start.
        finished_at: UTC.
        progress: what it is doing, for people ("refit: block 3 of 8").
        share_done: 0 to 1, as far as anything tells.
        result: what came of it, of the kind (JSON); written before the folder is put in place.
        error: why it failed.
        cancel_requested: somebody asked to stop it.
        user: who asked for it, where that is known.
        holder: the controller that holds it while it is RUNNING (see storage/leases/lease.py).
        token: how often it was claimed; a controller whose claim is not the last one writes nothing.
        beat: how often its lease was renewed.
        deaths: how many of its holders ended or fell silent, one after the other.

    """

    task_id: str
    kind: TaskKind
    job_id: str
    point: str
    trial: int
    options: dict[str, Any]
    state: TaskState
    created_at: datetime
    out: str
    host: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    progress: str = ""
    share_done: float | None = None
    result: dict[str, Any] | None = None
    error: str | None = None
    cancel_requested: bool = False
    user: str | None = None
    holder: str | None = None
    token: int = 0
    beat: int = 0
    deaths: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return what people may know of it as a JSON object."""
        times = {"created_at": self.created_at, "started_at": self.started_at, "finished_at": self.finished_at}
        return {
            "task": self.task_id,
            "kind": str(self.kind),
            "job": self.job_id,
            "point": self.point,
            "trial": self.trial,
            "state": str(self.state),
            "progress": self.progress,
            "share_done": self.share_done,
            "out": self.out,
            "user": self.user,
            "error": self.error,
            "result": self.result if self.state is TaskState.DONE else None,
            **{name: at.isoformat() if at else None for name, at in times.items()},
        }


@dataclass(frozen=True, slots=True)
class NewTask:
    """What is asked for; see `PointTask`."""

    kind: TaskKind
    job_id: str
    point: str
    trial: int
    out: str
    options: dict[str, Any] = field(default_factory=dict)
    host: str | None = None
    user: str | None = None

    def queued(self, task_id: str) -> PointTask:
        """Return the task as it waits."""
        return PointTask(
            task_id=task_id,
            kind=self.kind,
            job_id=self.job_id,
            point=self.point,
            trial=self.trial,
            options=self.options,
            state=TaskState.QUEUED,
            created_at=datetime.now(UTC),
            out=self.out,
            host=self.host,
            user=self.user,
        )


@dataclass(frozen=True, slots=True)
class TaskLease:
    """The right to do a task, until it lapses and another controller claims the task under a higher token."""

    task_id: str
    holder: str
    token: int


def new_task_id() -> str:
    """Return a name for a task that tells it from a job's."""
    return f"t{secrets.token_hex(3)}"


def is_task_id(name: str) -> bool:
    """Tell whether a name is one that tasks have."""
    return re.fullmatch("t[0-9a-f]{6}", name) is not None


def claim_values(holder: str, now: datetime) -> dict[str, Any]:
    """Return the fields of a task that change when somebody claims it, its token aside."""
    return {"state": TaskState.RUNNING, "started_at": now, "holder": holder, "beat": 0}


def held_by(task: PointTask, holder: str) -> PointTask:
    """Return a task as it is once somebody has claimed it."""
    return replace(task, token=task.token + 1, **claim_values(holder, datetime.now(UTC)))


def task_move_values(state: TaskState, now: datetime, error: str | None) -> dict[str, Any]:
    """Return the fields of a task that change when its holder lets it go, or it is queued again."""
    if state is TaskState.QUEUED:
        clean = {"error": None, "finished_at": None, "cancel_requested": False, "progress": "", "share_done": None}
        return {"state": state, "holder": None, **clean}
    done = {"share_done": 1.0, "progress": ""} if state is TaskState.DONE else {}
    return {"state": state, "holder": None, "finished_at": now, "error": error, **done}


def granted_task_move(move: TaskState, *, cancel_requested: bool) -> TaskState:
    """Return where a move of a RUNNING task leads: one that is given back is what somebody asked for meanwhile."""
    return TaskState.CANCELLED if move is TaskState.QUEUED and cancel_requested else move


def task_not_running(task: PointTask) -> StateError:
    """Return the error for a move of a task that nobody does at the moment."""
    return StateError(f"Task {task.task_id} is {task.state}; only a RUNNING one is let go.")


def task_not_found(task_id: str, newest: Sequence[str]) -> NotFoundError:
    """Return the error for an unknown task; `newest` holds the ids of the newest tasks, newest first."""
    hint = f"the newest are {', '.join(newest)}" if newest else "no point was exported yet"
    return NotFoundError(f"There is no task {task_id!r}; {hint}.")


def task_lease_lost(lease: TaskLease, task: PointTask) -> LeaseLostError:
    """Return the error of a controller that writes to a task which is no longer its own."""
    now = f"held by {told_holder(task.holder)}" if task.state is TaskState.RUNNING else str(task.state)
    return LeaseLostError(
        f"Task {lease.task_id} is no longer held by {told_holder(lease.holder)} but {now}: this controller stops, and "
        "nothing of its own was written since."
    )
