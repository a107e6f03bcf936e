"""The records a store keeps: a job (the user's request) and its trials (measured plans), and their legal states."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from space.document import FrontDocument
from space.errors import NotFoundError, StateError, StoreError
from space.measurement import Measurement
from space.plan import Plan
from space.spec import JobSpec


class JobState(StrEnum):
    """Where a job is; DONE, FAILED and CANCELLED may be resumed, which queues them again."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_finished(self) -> bool:
        """Tell whether nothing happens any more without a new request."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class TrialState(StrEnum):
    """Where a trial is; INFEASIBLE is a result (the plan may not be measured), not a failure."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    INFEASIBLE = "INFEASIBLE"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def is_finished(self) -> bool:
        """Tell whether the trial has its end."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.QUEUED}),
    JobState.DONE: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}
TRIAL_MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING, TrialState.STOPPED}),
    TrialState.RUNNING: frozenset(
        {TrialState.COMPLETE, TrialState.INFEASIBLE, TrialState.FAILED, TrialState.STOPPED, TrialState.WAITING}
    ),
    TrialState.COMPLETE: frozenset(),
    TrialState.INFEASIBLE: frozenset(),
    TrialState.FAILED: frozenset(),
    TrialState.STOPPED: frozenset({TrialState.WAITING}),
}


def check_job_move(job_id: str, old: JobState, new: JobState) -> None:
    """Raise StateError unless the table allows the move."""
    if new not in JOB_MOVES[old]:
        raise StateError(f"Job {job_id} is {old}; it cannot become {new}.")


def check_trial_move(job_id: str, number: int, old: TrialState, new: TrialState) -> None:
    """Raise StateError unless the table allows the move."""
    if new not in TRIAL_MOVES[old]:
        raise StateError(f"Trial {number} of job {job_id} is {old}; it cannot become {new}.")


def check_trial_finish(job_id: str, number: int, old: TrialState, new: TrialState) -> None:
    """Raise StateError unless the table allows the move; a WAITING trial may end as if it were RUNNING."""
    started = old is TrialState.WAITING and new.is_finished
    check_trial_move(job_id, number, TrialState.RUNNING if started else old, new)


def may_become(new: TrialState) -> list[TrialState]:
    """Return the one or two states of trials that `check_trial_finish` lets move to another one."""
    return [old for old in TrialState if new in TRIAL_MOVES[old] or (old is TrialState.WAITING and new.is_finished)]


def job_move_values(state: JobState, now: datetime, error: str | None) -> dict[str, Any]:
    """Return the fields of a job that change when it enters a state at `now` (UTC)."""
    if state is JobState.QUEUED:
        return {"state": state, "error": None, "finished_at": None, "cancel_requested": False}
    if state is JobState.RUNNING:
        return {"state": state, "started_at": now}
    return {"state": state, "finished_at": now, "error": error}


def job_not_found(job_id: str, newest: Sequence[str]) -> NotFoundError:
    """Return the error for an unknown job; `newest` holds the ids of the newest jobs, newest first."""
    hint = f"the newest are {', '.join(newest)}" if newest else "no job was submitted yet"
    return NotFoundError(f"There is no job {job_id!r}; {hint}.")


def trial_not_found(job_id: str, number: int) -> NotFoundError:
    """Return the error for an unknown trial of a known job."""
    return NotFoundError(f"Job {job_id} has no trial {number}.")


def json_copy(value: Any) -> Any:
    """Return a value as it comes back from JSON: keys become text and tuples lists.

    Raises:
        StoreError: it holds something that JSON cannot keep, such as a number that is not finite.

    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise StoreError(f"A record keeps text, finite numbers, lists and objects only: {error}.") from error


@dataclass(frozen=True, slots=True)
class Job:
    """A user's request and how far it is.

    Attributes:
        job_id: short name, unique in the store.
        spec: what was asked.
        state: where it is.
        created_at: UTC.
        started_at: UTC, of the last start.
        finished_at: UTC.
        phase: what it is doing, for people ("building levels 12/57").
        error: why it failed.
        cancel_requested: somebody asked to stop it.
        facts: what the run found out and later verbs need: digests, folders, intervals, versions (JSON).
        document: the front, once measured.

    """

    job_id: str
    spec: JobSpec
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    phase: str = ""
    error: str | None = None
    cancel_requested: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    document: FrontDocument | None = None


@dataclass(frozen=True, slots=True)
class Asking:
    """How a measurement came to be asked for: what a later search must know to learn from it.

    Attributes:
        origin: of the trial that asked.
        base: the plan whose neighbour was measured (a probe's operating point).

    """

    origin: str
    base: Plan | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A remembered answer with its question; `asking` is None where it was written by an older tightfit."""

    plan: Plan
    evaluation_digest: str
    measurement: Measurement
    asking: Asking | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One plan of a job and what was measured.

    Attributes:
        job_id: its job.
        number: 0, 1, 2 ... in the order of asking.
        plan: module name -> level.
        origin: who proposed it ("uniform", "sensitivity", "knapsack", "refine", "nsga2", ...).
        state: where it is.
        size_bytes: weight bytes and key/value cache.
        measurement: on the search text, once COMPLETE.
        held_out: on the held-out text, for contenders.
        sampler_state: JSON that the sampler needs again when the search is replayed.
        reason: why it is FAILED, INFEASIBLE or STOPPED, with the evidence.

    """

    job_id: str
    number: int
    plan: Plan
    origin: str
    state: TrialState
    size_bytes: int
    measurement: Measurement | None = None
    held_out: Measurement | None = None
    sampler_state: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
