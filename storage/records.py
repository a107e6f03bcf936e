"""The records a store keeps: a job (the user's request) and its trials (measured plans), and their legal states."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from space.errors import LeaseLostError, NotFoundError, StateError, StoreError
from space.measurement import Measurement
from space.plan import Plan
from space.results.document import FrontDocument
from storage.job_facts import JobFacts
from storage.sampler_state import SamplerState

if TYPE_CHECKING:
    from space.spec import JobSpec


class JobState(StrEnum):
    """Where a job is; PAUSED, DONE, FAILED and CANCELLED may be resumed, which queues them again."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_finished(self) -> bool:
        """Tell whether nothing happens any more without a new request."""
        return self in (JobState.DONE, JobState.FAILED, JobState.CANCELLED)

    @property
    def rests(self) -> bool:
        """Tell whether no controller has or will take the job without a new request."""
        return self.is_finished or self is JobState.PAUSED


class TrialState(StrEnum):
    """Where a trial is."""

    WAITING = "WAITING"
    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    STOPPED = "STOPPED"

    @property
    def is_finished(self) -> bool:
        """Tell whether the trial has its end."""
        return self not in (TrialState.WAITING, TrialState.RUNNING)


JOB_MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED, JobState.FAILED}),
    JobState.RUNNING: frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED, JobState.PAUSED, JobState.QUEUED}),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.DONE: frozenset({JobState.QUEUED}),
    JobState.FAILED: frozenset({JobState.QUEUED}),
    JobState.CANCELLED: frozenset({JobState.QUEUED}),
}
TRIAL_MOVES: dict[TrialState, frozenset[TrialState]] = {
    TrialState.WAITING: frozenset({TrialState.RUNNING, TrialState.STOPPED}),
    TrialState.RUNNING: frozenset({TrialState.COMPLETE, TrialState.FAILED, TrialState.STOPPED, TrialState.WAITING}),
    TrialState.COMPLETE: frozenset(),
    TrialState.FAILED: frozenset(),
    TrialState.STOPPED: frozenset({TrialState.WAITING}),
}


def job_sources(new: JobState) -> list[JobState]:
    """Return the states from which the table allows a job to enter another one."""
    return [old for old in JobState if new in JOB_MOVES[old]]


def finish_sources(new: TrialState) -> list[TrialState]:
    """Return the states from which a trial may enter another one; WAITING trials start in the same step."""
    started = {TrialState.WAITING} if new.is_finished else set()
    return [old for old in TrialState if new in TRIAL_MOVES[old] or old in started]


def check_job_move(job_id: str, old: JobState, new: JobState) -> None:
    """Raise StateError unless the table allows the move."""
    if new not in JOB_MOVES[old]:
        raise StateError(f"Job {job_id} is {old}; it cannot become {new}.")


def check_deletion(job_id: str, state: JobState, num_tasks: int) -> None:
    """Raise StateError unless a job and all its tasks rest: only then does nobody write to it."""
    if not state.rests:
        raise StateError(f"Job {job_id} is {state}; cancel it before it is deleted.")
    if num_tasks:
        raise StateError(f"Job {job_id} has {num_tasks} exports that wait or run; cancel them before it is deleted.")


def check_trial_move(job_id: str, number: int, old: TrialState, new: TrialState) -> None:
    """Raise StateError unless the table allows the move."""
    if new not in TRIAL_MOVES[old]:
        raise StateError(f"Trial {number} of job {job_id} is {old}; it cannot become {new}.")


def check_trial_finish(job_id: str, number: int, old: TrialState, new: TrialState) -> None:
    """Raise StateError unless the table allows the move; a WAITING trial may end as if it were RUNNING."""
    started = old is TrialState.WAITING and new.is_finished
    check_trial_move(job_id, number, TrialState.RUNNING if started else old, new)


def job_move_values(state: JobState, now: datetime, error: str | None) -> dict[str, Any]:
    """Return the fields of a job that change when it enters a state at `now` (UTC)."""
    if state is JobState.QUEUED:
        clean = {"error": None, "finished_at": None, "cancel_requested": False, "pause_requested": False}
        return {"state": state, "holder": None, **clean}
    if state is JobState.RUNNING:
        return {"state": state, "started_at": now}
    if state is JobState.PAUSED:
        return {"state": state, "holder": None, "pause_requested": False}
    return {"state": state, "holder": None, "finished_at": now, "error": error}


def granted(move: JobState, old: JobState, *, cancel_requested: bool, pause_requested: bool) -> JobState:
    """Return where a move leads: a RUNNING job that is given back is what somebody asked for meanwhile, not QUEUED."""
    if old is JobState.RUNNING and cancel_requested and move in (JobState.QUEUED, JobState.PAUSED):
        return JobState.CANCELLED
    return JobState.PAUSED if old is JobState.RUNNING and pause_requested and move is JobState.QUEUED else move


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
        StoreError: see `json_text`.

    """
    return json.loads(json_text(value))


def json_text(value: Any) -> str:
    """Return a value as JSON.

    Raises:
        StoreError: it holds something that JSON cannot keep, such as a number that is not finite.

    """
    try:
        return json.dumps(value, allow_nan=False)
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
        pause_requested: somebody asked to stop it for a while.
        user: whose job it is, where that is known.
        holder: the controller that holds it while it is RUNNING (see storage/leases/lease.py).
        token: how often it was claimed; a controller whose claim is not the last one writes nothing.
        beat: how often its lease was renewed; one that no longer changes has lapsed.
        label: what people call it.
        note: what people note of it.
        facts: what the run found out and later verbs need.
        document: the front, once measured.

    """

    job_id: str
    spec: "JobSpec"
    state: JobState
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    phase: str = ""
    error: str | None = None
    cancel_requested: bool = False
    pause_requested: bool = False
    user: str | None = None
    holder: str | None = None
    token: int = 0
    beat: int = 0
    label: str | None = None
    note: str | None = None
    facts: JobFacts = field(default_factory=JobFacts)
    document: FrontDocument | None = None


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to run a job, until it lapses and another controller claims the job under a higher token."""

    job_id: str
    holder: str
    token: int


def told_holder(holder: str | None) -> str:
    """Return a holder for people: host and process."""
    if holder is None:
        return "nobody"
    host, _, rest = holder.partition(":")
    return f"process {rest.partition(':')[0]} on {host}" if rest else holder


def lease_lost(lease: Lease, job: Job) -> LeaseLostError:
    """Return the error of a controller that writes to a job which is no longer its own."""
    now = f"held by {told_holder(job.holder)}" if job.state is JobState.RUNNING else str(job.state)
    return LeaseLostError(
        f"Job {lease.job_id} is no longer held by {told_holder(lease.holder)} but {now}: this controller stops, and "
        "nothing of its own was written since."
    )


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
        sampler_state: what the sampler needs again when the search is replayed.
        reason: why it is FAILED or STOPPED, with the evidence.

    """

    job_id: str
    number: int
    plan: Plan
    origin: str
    state: TrialState
    size_bytes: int
    measurement: Measurement | None = None
    held_out: Measurement | None = None
    sampler_state: SamplerState = field(default_factory=SamplerState)
    reason: str | None = None
