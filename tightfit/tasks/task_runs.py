"""Running a claimed task on a point: its lease, its steps and its end are kept, and a request to stop is heard."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from space.errors import LeaseLostError, OutageError, StateError, StoreError, TightfitError
from space.plan import Plan
from storage.leases.lease import keeping
from storage.leases.outage_retry import held_store
from storage.point_tasks import PointTask, TaskKind, TaskLease, TaskState, task_lease_lost
from storage.records import Job
from storage.store import Store
from tightfit.config import Settings
from tightfit.gc import at_home

Watch = Callable[[int, Mapping[str, float]], None]
"""told (step, figures) of a learning curve"""
Run = Callable[[Job, PointTask, Plan, "TaskSteps"], dict[str, Any]]
_RUNS = {  # loaded where one runs: that takes seconds
    TaskKind.EXPORT: "tightfit.exporting.run_export",
    TaskKind.RECOVER: "tightfit.jobs.recovering.run_recovery",
}
_LOOK_SECONDS = 1.0


class TaskStoppedError(Exception):
    """Somebody asked the task to stop."""


class TaskSteps:
    """Records how far a task is, and looks about every second whether it may go on."""

    def __init__(
        self, store: Store, lease: TaskLease, tell: Callable[[str], None], watch: Watch = lambda *_: None
    ) -> None:
        """Remember who hears its sentences, and who sees its figures."""
        self._store, self._lease, self._tell, self._watch = store, lease, tell, watch
        self._step, self._looked_at = "", 0.0

    def tell(self, sentence: str) -> None:
        """Tell people."""
        self._tell(sentence)

    def reach(self, step: str, share_done: float) -> None:
        """Record a step that begins.

        Raises:
            TaskStoppedError: somebody asked the task to stop.
            LeaseLostError: another controller has it now.

        """
        if step != self._step:
            self._store.update_task(self._lease.task_id, progress=step, share_done=share_done)
            self._step = step
        self.look()

    def look(self) -> None:
        """See about every second whether the task may go on; see `reach`."""
        if time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._look()

    def watch(self, step: int, figures: Mapping[str, float]) -> None:
        """Show a step of a learning curve."""
        self._watch(step, figures)

    def keep(self, result: dict[str, Any]) -> None:
        """Record what came of the task, if it is not to stop; see `reach`."""
        self._look()
        self._store.update_task(self._lease.task_id, result=result)

    def _look(self) -> None:
        task = self._store.get_task(self._lease.task_id)
        if task.state is not TaskState.RUNNING or task.token != self._lease.token:
            raise task_lease_lost(self._lease, task)
        if task.cancel_requested:
            raise TaskStoppedError
        self._looked_at = time.monotonic()


def run_held_task(
    store: Store, settings: Settings, lease: TaskLease, tell: Callable[[str], None], watch: Watch = lambda *_: None
) -> PointTask:
    """Run a claimed task to its end and return it: DONE, or CANCELLED where somebody asked for that.

    Raises:
        LeaseLostError: another controller has the task now.
        OutageError: the database stayed away; the task can be resumed or taken over.
        TightfitError: the task FAILED; the error is recorded with it.

    """
    held = held_store(store, lease)
    with keeping(store, lease, settings.lease_seconds):
        try:
            _run(held, settings, lease.task_id, TaskSteps(held, lease, tell, watch))
            return held.set_task_state(lease.task_id, TaskState.DONE)
        except (LeaseLostError, OutageError):
            raise
        except TaskStoppedError:
            return held.set_task_state(lease.task_id, TaskState.CANCELLED)
        except KeyboardInterrupt:
            held.set_task_state(lease.task_id, TaskState.CANCELLED)
            tell(f"Interrupted; `tightfit resume {lease.task_id}` begins again.")
            raise
        except SystemExit:  # told to go (SIGTERM): another controller may have the task at once
            held.set_task_state(lease.task_id, TaskState.QUEUED)
            tell(f"Stopped by SIGTERM, and queued; `tightfit resume {lease.task_id}` begins again.")
            raise
        except Exception as error:
            reason = str(error) if isinstance(error, TightfitError) else repr(error)
            with suppress(StoreError, StateError):  # a full disk takes this write neither
                held.set_task_state(lease.task_id, TaskState.FAILED, reason)
            raise


def _run(store: Store, settings: Settings, task_id: str, steps: TaskSteps) -> None:
    task = store.get_task(task_id)
    job = at_home(store.get_job(task.job_id), settings.cache_folder)
    plan = next((trial.plan for trial in store.list_trials(job.job_id) if trial.number == task.trial), None)
    if plan is None:
        raise StoreError(
            f"Job {job.job_id} has no trial {task.trial}, which task {task.task_id} is about: somebody changed its "
            "records. Restore a copy of the database, or submit the job again."
        )
    module, _, name = _RUNS[task.kind].rpartition(".")
    run: Run = getattr(import_module(module), name)
    run(job, task, plan, steps)


def leftover(task: PointTask) -> Path | None:
    """Return where a task's folder is written until it is whole; None where it makes none."""
    if not task.out:
        return None
    from tightfit.export.checkpoint import begun_folder

    return begun_folder(Path(task.out), task.task_id)
