"""A job's status as a JSON object: what `tightfit status --json` prints and the service answers."""

from pathlib import Path
from typing import Any

from storage.job_summary import Overview, Summary
from storage.leases.lease import is_gone
from storage.point_tasks import PointTask, TaskState
from storage.records import JobState


def overview_json(found: Overview, log: Path) -> dict[str, Any]:
    """Return a job's status as a JSON object; `log` is where its log would be."""
    summary = found.summary or Summary(found.created_at)
    value = summary.to_json()
    return {
        "job": found.job_id,
        "state": str(found.state),
        "user": found.user,
        "model": found.model,
        "budget": found.budget,
        "phase": found.phase,
        "error": found.error,
        "is_stopped": is_stopped(found),
        "created_at": found.created_at.isoformat(),
        "started_at": found.started_at.isoformat() if found.started_at else None,
        "finished_at": found.finished_at.isoformat() if found.finished_at else None,
        "trials": dict(summary.trials),
        "elapsed_seconds": summary.elapsed_seconds,
        "share_done": share_done(found),
        "seconds_left": seconds_left(found),
        **{name: value[name] for name in ("best_kl_divergence", "hypervolume", "marginal_price", "measured_on")},
        "num_points": summary.num_points,
        "recommended": value["recommended"],
        "updated_at": None if found.summary is None else value["updated_at"],
        "log": str(log) if log.exists() else None,
    }


def task_json(task: PointTask) -> dict[str, Any]:
    """Return a task on a point as a JSON object, and whether its process is gone."""
    return task.to_json() | {"is_stopped": is_task_stopped(task)}


def is_task_stopped(task: PointTask) -> bool:
    """Tell whether the process that runs a task has certainly ended, and nobody took it over."""
    return task.state is TaskState.RUNNING and is_gone(task.holder)


def is_stopped(job: Overview) -> bool:
    """Tell whether the process that runs a job has certainly ended, and nobody took it over."""
    return job.state is JobState.RUNNING and is_gone(job.holder)


def share_done(job: Overview) -> float | None:
    """Return how much of a job's time is over, 0 to 1, as far as anything tells."""
    return 1.0 if job.state is JobState.DONE else job.summary.share_done if job.summary else None


def seconds_left(job: Overview) -> float | None:
    """Return what a running job still takes; who rests or waits takes nobody knows how long."""
    return job.summary.seconds_left if job.summary and job.state is JobState.RUNNING else None
