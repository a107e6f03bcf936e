"""How far jobs and exports are: what `tightfit status --json` prints, the service answers, and a client reads."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from storage.job_summary import Overview, Summary
from storage.leases.lease import is_gone
from storage.point_tasks import PointTask, TaskKind, TaskState
from storage.records import JobState

_OF_SUMMARY = ("best_kl_divergence", "hypervolume", "marginal_price", "measured_on", "num_points", "recommended")


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How far a job is, for whoever is far from its records.

    Attributes:
        overview: the job in short.
        is_stopped: the process that ran it has certainly ended, and nobody took it over.
        log: where its log is, on the machine of its home; None where it has none there.

    """

    overview: Overview
    is_stopped: bool = False
    log: str | None = None

    @staticmethod
    def of(found: Overview, log: Path) -> "JobStatus":
        """Return the status of a job of this machine; `log` is where its log would be."""
        is_stopped = found.state is JobState.RUNNING and is_gone(found.holder)
        return JobStatus(found, is_stopped, str(log) if log.exists() else None)

    @property
    def share_done(self) -> float | None:
        """Return how much of the job's time is over, 0 to 1, as far as anything tells."""
        found = self.overview
        return 1.0 if found.state is JobState.DONE else found.summary.share_done if found.summary else None

    @property
    def seconds_left(self) -> float | None:
        """Return what a running job still takes; who rests or waits takes nobody knows how long."""
        found = self.overview
        return found.summary.seconds_left if found.summary and found.state is JobState.RUNNING else None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        found = self.overview
        summary = found.summary or Summary(found.created_at)
        value = summary.to_json()
        return {
            "job": found.job_id,
            "state": str(found.state),
            "user": found.user,
            "label": found.label,
            "note": found.note,
            "model": found.model,
            "budget": found.budget,
            "phase": found.phase,
            "error": found.error,
            "is_stopped": self.is_stopped,
            "created_at": found.created_at.isoformat(),
            "started_at": _text(found.started_at),
            "finished_at": _text(found.finished_at),
            "trials": dict(summary.trials),
            "elapsed_seconds": summary.elapsed_seconds,
            "share_done": self.share_done,
            "seconds_left": self.seconds_left,
            **{name: value[name] for name in _OF_SUMMARY},
            "updated_at": None if found.summary is None else value["updated_at"],
            "log": self.log,
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> "JobStatus":
        """Read the JSON object."""
        names = ("updated_at", "trials", "elapsed_seconds", "share_done", "seconds_left", *_OF_SUMMARY)
        summary = Summary.from_json({name: value[name] for name in names}) if value["updated_at"] else None
        overview = Overview(
            job_id=value["job"],
            state=JobState(value["state"]),
            **{name: value[name] for name in ("model", "budget", "phase", "error", "user")},
            created_at=datetime.fromisoformat(value["created_at"]),
            started_at=_time(value["started_at"]),
            finished_at=_time(value["finished_at"]),
            label=value.get("label"),
            note=value.get("note"),
            summary=summary,
        )
        return JobStatus(overview, value["is_stopped"], value["log"])


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """How far a task on a point is, for whoever is far from its records.

    Attributes:
        task: its record; read from JSON, it lacks who holds it and how it is done.
        is_stopped: the process that ran it has certainly ended, and nobody took it over.

    """

    task: PointTask
    is_stopped: bool = False

    @staticmethod
    def of(task: PointTask) -> "ExportStatus":
        """Return the status of a task of this machine."""
        return ExportStatus(task, task.state is TaskState.RUNNING and is_gone(task.holder))

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return self.task.to_json() | {"is_stopped": self.is_stopped}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "ExportStatus":
        """Read the JSON object."""
        task = PointTask(
            task_id=value["task"],
            kind=TaskKind(value["kind"]),
            job_id=value["job"],
            state=TaskState(value["state"]),
            options={},
            **{name: value[name] for name in ("point", "trial", "progress", "share_done", "out", "user", "error")},
            result=value["result"],
            created_at=datetime.fromisoformat(value["created_at"]),
            started_at=_time(value["started_at"]),
            finished_at=_time(value["finished_at"]),
        )
        return ExportStatus(task, value["is_stopped"])


def overview_json(found: Overview, log: Path) -> dict[str, Any]:
    """Return the status of a job of this machine as a JSON object; `log` is where its log would be."""
    return JobStatus.of(found, log).to_json()


def task_json(task: PointTask) -> dict[str, Any]:
    """Return the status of a task of this machine as a JSON object."""
    return ExportStatus.of(task).to_json()


def _text(time: datetime | None) -> str | None:
    return time.isoformat() if time else None


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
