"""What happened to a job, one event after the other: for whoever follows it, now or from where he left off."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from space.digest import digest
from space.measurement import Measurement
from space.results.document import FrontDocument
from storage.point_tasks import PointTask
from storage.records import JobState, TrialState, told_holder

MAX_EVENTS = 1000
"""So many are read at once, unless more are asked for."""
_SHOWN = 500  # characters of a reason


class EventKind(StrEnum):
    """What an event is about; its facts are those of the function of the same name below."""

    JOB = "job"
    REQUEST = "request"
    PHASE = "phase"
    TRIAL = "trial"
    FRONT = "front"
    TASK = "task"


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a job; none is ever changed.

    Attributes:
        job_id: its job.
        seq: 1, 2, 3 ... in the order in which the job's events became known.
        kind: what it is about.
        at: UTC.
        facts: the few that tell it (JSON); the records have all.

    """

    job_id: str
    seq: int
    kind: EventKind
    at: datetime
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class News:
    """An event before it has its number and time."""

    kind: EventKind
    facts: dict[str, Any]


def job_news(state: JobState, *, error: str | None = None, holder: str | None = None) -> News:
    """Return that a job entered a state, why it failed, or who has it now."""
    told = {"error": _short(error), "holder": holder and told_holder(holder)}
    return News(EventKind.JOB, {"state": str(state)} | {name: text for name, text in told.items() if text})


def request_news(request: str) -> News:
    """Return that somebody asked a running job to "cancel", to "pause", or to go on after all ("resume")."""
    return News(EventKind.REQUEST, {"request": request})


def phase_news(phase: str) -> News:
    """Return what a job is doing, for people."""
    return News(EventKind.PHASE, {"phase": phase})


def trial_news(
    number: int, state: TrialState, origin: str, size_bytes: int, measurement: Measurement | None, reason: str | None
) -> News:
    """Return the end of a trial: where it lies on size and KL divergence, or why it lies nowhere."""
    facts: dict[str, Any] = {"trial": number, "state": str(state), "origin": origin, "size_bytes": size_bytes}
    if measurement is not None:
        facts["kl_divergence"] = measurement.kl_divergence
    return News(EventKind.TRIAL, facts | ({"reason": _short(reason)} if reason else {}))


def front_news(document: FrontDocument) -> News:
    """Return that a job has another front: its digest, how large it is, and what it recommends."""
    points = [(p.point, p.trial, p.size_bytes, p.kl_divergence) for p in document.front]
    best = next((p for p in document.front if p.recommended), None)
    facts: dict[str, Any] = {
        "digest": digest([document.measured_on, points])[:16],
        "num_points": len(points),
        "measured_on": document.measured_on,
        "hypervolume": document.hypervolume,
    }
    if best is not None:
        facts["recommended"] = {
            "point": best.point,
            "size_bytes": best.size_bytes,
            "kl_divergence": best.kl_divergence,
        }
    return News(EventKind.FRONT, facts)


def task_news(task: PointTask) -> News:
    """Return how far a task on one of a job's points is."""
    facts = {"task": task.task_id, "kind": str(task.kind), "point": task.point, "state": str(task.state)}
    told = {"progress": task.progress, "share_done": task.share_done, "error": _short(task.error)}
    return News(EventKind.TASK, facts | {name: value for name, value in told.items() if value not in (None, "")})


def _short(text: str | None) -> str | None:
    return text if text is None or len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
