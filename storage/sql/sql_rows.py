"""Records from rows of a database, checked, and their columns."""

from dataclasses import fields
from typing import Any

from space.measurement import Measurement
from space.plan import Plan
from storage.events import Event
from storage.job_facts import JobFacts
from storage.job_summary import Overview
from storage.migrations.tables import MeasurementRow, TaskRow, TrialRow
from storage.point_tasks import PointTask
from storage.records import Asking, Job, Known, Trial
from storage.sampler_state import SamplerState
from storage.sound_records import (
    readable,
    reading,
    sound,
    sound_document,
    sound_facts,
    sound_measurement,
    sound_spec,
    sound_summary,
)


def job_of(row: Any, *, whole: bool = True) -> Job:
    """Return a row's record, with facts and document where it is to be whole. Raises StoreError."""
    with reading(f"Job {row.job_id}"):
        return sound(
            Job(
                job_id=row.job_id,
                spec=sound_spec(row.spec),
                state=row.state,
                created_at=row.created_at,
                started_at=row.started_at,
                finished_at=row.finished_at,
                phase=row.phase,
                error=row.error,
                cancel_requested=row.cancel_requested,
                pause_requested=row.pause_requested,
                user=row.user,
                holder=row.holder,
                token=row.token,
                beat=row.beat,
                label=row.label,
                note=row.note,
                facts=sound_facts(row.facts) if whole else JobFacts(),
                document=sound_document(row.job_id, row.document) if whole and row.document is not None else None,
            )
        )


def overview_of(row: Any) -> Overview:
    """Return a job's overview of a row with its summary's value. Raises StoreError."""
    with reading(f"Job {row.job_id}"):
        return sound(
            Overview(
                job_id=row.job_id,
                state=row.state,
                model=row.spec["model"],
                budget=row.spec["budget"],
                created_at=row.created_at,
                started_at=row.started_at,
                finished_at=row.finished_at,
                phase=row.phase,
                error=row.error,
                user=row.user,
                holder=row.holder,
                label=row.label,
                note=row.note,
                summary=None if row.value is None else sound_summary(row.value),
            )
        )


def trial_of(row: TrialRow) -> Trial:
    """Return a row's record. Raises StoreError."""
    with reading(f"Trial {row.number} of job {row.job_id}"):
        return sound(
            Trial(
                job_id=row.job_id,
                number=row.number,
                plan=Plan.from_json(readable(row.plan)),
                origin=row.origin,
                state=row.state,
                size_bytes=row.size_bytes,
                measurement=None if row.measurement is None else sound_measurement(row.measurement),
                held_out=None if row.held_out is None else sound_measurement(row.held_out),
                sampler_state=SamplerState.from_json(readable(row.sampler_state)),
                reason=row.reason,
            )
        )


def known_of(row: MeasurementRow) -> Known:
    """Return a row's record; the row has a plan. Raises StoreError."""
    with reading(f"The measurement of plan {row.plan_digest}"):
        base = None if row.base is None else Plan.from_json(row.base)
        asking = None if row.origin is None else Asking(row.origin, base)
        measured = sound_measurement(row.measurement)
        return Known(Plan.from_json(row.plan or {}), row.evaluation_digest, measured, asking)


def trial_values(trial: Trial) -> dict[str, Any]:
    """Return the columns of a trial."""
    return {
        "job_id": trial.job_id,
        "number": trial.number,
        "plan": trial.plan.to_json(),
        "origin": trial.origin,
        "state": trial.state,
        "size_bytes": trial.size_bytes,
        "measurement": measurement_json(trial.measurement),
        "held_out": measurement_json(trial.held_out),
        "sampler_state": trial.sampler_state.to_json(),
        "reason": trial.reason,
    }


def measurement_json(measurement: Measurement | None) -> dict[str, Any] | None:
    """Return the column of a measurement."""
    return None if measurement is None else measurement.to_json()


def event_of(row: Any) -> Event:
    """Return a row's record. Raises StoreError."""
    with reading(f"Event {row.seq} of job {row.job_id}"):
        return sound(Event(row.job_id, row.seq, row.kind, row.at, row.facts))


def task_of(row: TaskRow) -> PointTask:
    """Return a row's record. Raises StoreError."""
    with reading(f"Task {row.task_id}"):
        return sound(PointTask(**{field.name: getattr(row, field.name) for field in fields(PointTask)}))


def task_values(task: PointTask) -> dict[str, Any]:
    """Return the columns of a task."""
    return {field.name: getattr(task, field.name) for field in fields(PointTask)}
