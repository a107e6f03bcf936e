"""The verbs of tightfit on a chosen point of a front: export it here or leave it to others, go on with it, stop it."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from space.errors import JobFailedError, StateError, TightfitError
from space.results.document import FrontPoint
from space.results.recovered import with_recovered
from space.results.recovery_names import AUTO
from storage.leases.lease import holder_name, host_name, is_gone
from storage.point_tasks import NewTask, PointTask, TaskKind, TaskLease, TaskState, new_task_id
from storage.records import Job, JobState
from storage.store import Store
from storage.tracking.contract import Tracker
from tightfit.config import Settings
from tightfit.links import checkpoints_of
from tightfit.report.notebook_front import Front
from tightfit.tasks.export_wish import ExportWish
from tightfit.tasks.task_runs import leftover, run_held_task
from tightfit.work import requeued_task
from workers.bounded_files import user_path

if TYPE_CHECKING:
    from tightfit.exporting import Exported
    from tightfit.tasks.asked_recovery import RecoverWish

CLOSE_SECONDS = 30.0
"""how long what a tracker has not shown yet may hold up a process that ends"""
Tell = Callable[[str], None]


def _silent(_: str) -> None:
    """Tell nobody."""


class TaskVerbs:
    """The part of `Service` that is about tasks on a point."""

    settings: Settings
    store: Store

    if TYPE_CHECKING:

        def _tracker(self) -> Tracker:
            """Return what shows jobs."""

        def _publish(self, job: Job, tracker: Tracker) -> None:
            """Show a job and its front."""

    def front(self, job_id: str) -> Front:
        """Return a job's front: a document that is a data frame, a plot and a page of a notebook too.

        Raises:
            JobFailedError: there is none yet; the message says how far the job is.

        """
        document, job = self.store.document(job_id), self.store.overview(job_id)
        if document is None:
            what = job.error or job.phase or "nothing measured yet"
            raise JobFailedError(f"Job {job_id} is {job.state} and has no front yet: {what}")
        return Front.of(with_recovered(document, self._recovered_points(job_id)), str(job.state))

    def _recovered_points(self, job_id: str) -> list[FrontPoint]:
        """Return the points that recoveries of a job made, in the order that they were asked for."""
        done = [t for t in self.store.list_tasks(job_id) if t.kind is TaskKind.RECOVER and t.state is TaskState.DONE]
        found = [(task.result or {}).get("point") for task in reversed(done)]
        return [FrontPoint.from_json(point) for point in found if point is not None]

    def export(
        self,
        job_id: str,
        out: Path,
        point: str | None = None,
        budget: str | None = None,
        target: str | None = None,
        *,
        refit: bool | None = None,
        recovery: str = "refit",
        tell: Tell = _silent,
    ) -> "Exported":
        """Write a point of a job's front as a checkpoint and verify it by reloading.

        It is a task of this process: should that be killed, `tightfit work` or `tightfit resume TASK` ends it. `refit`
        fits the point again before and keeps that where it is measurably better; None does so wherever it can help and
        memory holds both models; `recovery` names another way. `tell` hears sentences about it.

        Raises:
            NotFoundError, InfeasibleBudgetError: no such point.
            OutputError: `out` cannot be used.
            VerificationError: the files do not hold what was promised.
            JobFailedError: somebody cancelled it.

        """
        wish = ExportWish(user_path(out), point, budget, target, refit, recovery, host_name())
        asked = self._asked(job_id, wish)
        task = self.store.create_task(new_task_id(), asked, holder_name())
        return self._exported(self._run_task(TaskLease(task.task_id, str(task.holder), task.token), tell), out)

    def queue_export(
        self,
        job_id: str,
        out: Path,
        point: str | None = None,
        budget: str | None = None,
        target: str | None = None,
        *,
        refit: bool | None = None,
        recovery: str = "refit",
        any_host: bool = False,
        user: str | None = None,
    ) -> PointTask:
        """Leave an export to those that work: on this host, or on any where all of them see the folder `out`.

        It is of a `user` (default: who is at work here).

        Raises what `export` raises before anything is written.
        """
        host = None if any_host else host_name()
        asked = self._asked(job_id, ExportWish(user_path(out), point, budget, target, refit, recovery, host))
        return self.store.create_task(new_task_id(), asked if user is None else replace(asked, user=user))

    def recover(self, job_id: str, wish: "RecoverWish", tell: Tell = _silent) -> PointTask:
        """Make a point of a job's front better in the same bytes; kept only where held-out text shows it.

        It is a task of this process: should that be killed, `tightfit work` or `tightfit resume TASK` goes on with it.
        Its result holds the recovered point, or None, and what each recovery came to.

        Raises:
            NotFoundError, InfeasibleBudgetError: no such point.
            SpecError: there is no such recovery, or it can do nothing for the point.
            JobFailedError: somebody cancelled it.

        """
        asked = self._asked_recovery(job_id, wish)
        task = self.store.create_task(new_task_id(), asked, holder_name())
        return self._done(self._run_task(TaskLease(task.task_id, str(task.holder), task.token), tell))

    def queue_recovery(self, job_id: str, wish: "RecoverWish", user: str | None = None) -> PointTask:
        """Leave a recovery to those that work on this host; raises what `recover` raises before anything is done."""
        asked = self._asked_recovery(job_id, wish)
        return self.store.create_task(new_task_id(), asked if user is None else replace(asked, user=user))

    def _recover_as_asked(self, job: Job, tell: Tell) -> None:
        """Recover the recommended point of a job that is DONE and asked for it; whatever fails, its front stays."""
        if job.spec.recover is None or job.state is not JobState.DONE:
            return
        if any(task.kind is TaskKind.RECOVER for task in self.tasks(job.job_id)):
            return
        from tightfit.tasks.asked_recovery import RecoverWish

        try:
            wish = RecoverWish(method=None if job.spec.recover == AUTO else job.spec.recover)
            asked = replace(self._asked_recovery(job.job_id, wish), user=job.user)
            task = self.store.create_task(new_task_id(), asked, holder_name())
            self._run_task(TaskLease(task.task_id, str(task.holder), task.token), tell)
        except TightfitError as error:
            tell(f"--recover {job.spec.recover}: {error}")

    def run_recovery(self, task_id: str, tell: Tell = _silent) -> PointTask:
        """Run a queued recovery here; see `recover`. Raises StateError."""
        return self._done(self._run_task(self._claimed(task_id), tell))

    def run_export(self, task_id: str, tell: Tell = _silent) -> "Exported":
        """Run a queued export here; see `export`.

        Raises:
            StateError: it is not queued.

        """
        return self._exported(self._run_task(self._claimed(task_id), tell), None)

    def _claimed(self, task_id: str) -> TaskLease:
        lease = self.store.claim_task(holder_name(), host_name(), task_id)
        if lease is None:
            state = self.store.get_task(task_id).state
            raise StateError(f"Task {task_id} is {state}; only QUEUED ones run. `tightfit resume {task_id}` queues it.")
        return lease

    def tasks(self, job_id: str | None = None) -> Sequence[PointTask]:
        """Return the tasks on points, of all jobs or of one, newest first. Raises NotFoundError."""
        return self.store.list_tasks(job_id)

    def cancel_task(self, task_id: str) -> PointTask:
        """Ask a task to stop; where nobody runs it any more, what it left is deleted. Idempotent."""
        self.store.request_cancel_task(task_id)
        task = self.store.get_task(task_id)
        if task.state is TaskState.RUNNING and is_gone(task.holder):
            lease = self.store.take_over_task(task, holder_name())
            if lease is not None:
                if (begun := leftover(task)) is not None:
                    shutil.rmtree(begun, ignore_errors=True)
                return self.store.holding(lease).set_task_state(task_id, TaskState.CANCELLED)
        return task

    def requeue_task(self, task_id: str) -> PointTask:
        """Queue a task again that failed, was cancelled or whose controller has gone; a DONE one stays so.

        A RUNNING one is watched for the time of a lease where its controller is on another machine.
        """
        return requeued_task(self.store, self.store.get_task(task_id), self.settings.lease_seconds)

    def _asked(self, job_id: str, wish: ExportWish) -> NewTask:
        from tightfit.tasks.asked_export import asked_export

        job, document = self.store.get_job(job_id), self.front(job_id)
        wish.check(document)
        return asked_export(job, document, self.store.list_trials(job_id), wish)

    def _asked_recovery(self, job_id: str, wish: "RecoverWish") -> NewTask:
        from tightfit.tasks.asked_recovery import asked_recovery

        return asked_recovery(self.store.get_job(job_id), self.front(job_id), self.store.list_trials(job_id), wish)

    def _run_task(self, lease: TaskLease, tell: Tell) -> PointTask:
        task = self.store.get_task(lease.task_id)
        if task.kind is not TaskKind.RECOVER:
            done = run_held_task(self.store, self.settings, lease, tell)
            self._show_export(done)
            return done
        job, tracker = self.store.get_job(task.job_id), self._tracker()

        def watch(step: int, figures: Mapping[str, float]) -> None:
            tracker.progress(job, step, {f"recover/{task.task_id}/{name}": value for name, value in figures.items()})

        try:
            done = run_held_task(self.store, self.settings, lease, tell, watch)
            self._publish(job, tracker)
            return done
        finally:
            tracker.close(CLOSE_SECONDS)

    def _done(self, task: PointTask) -> PointTask:
        """Return a recovery that is DONE. Raises JobFailedError where it was cancelled."""
        if task.state is not TaskState.DONE:
            raise JobFailedError(f"Recovery {task.task_id} was cancelled; `tightfit resume {task.task_id}` goes on.")
        return task

    def _show_export(self, task: PointTask) -> None:
        """Show an export that is done as a version of its model; MLflow may be away."""
        tracker = self._tracker()
        for export in checkpoints_of(self.store.get_job(task.job_id), [task]):
            tracker.register(export)
        tracker.close(CLOSE_SECONDS)

    def _exported(self, task: PointTask, out: Path | None) -> "Exported":
        """Return what came of an export, its folder named as it was asked for."""
        from tightfit.exporting import Exported

        if task.state is not TaskState.DONE or task.result is None:
            raise JobFailedError(f"Export {task.task_id} was cancelled; `tightfit resume {task.task_id}` begins again.")
        found = Exported.of_result(task.result)
        return found if out is None else replace(found, path=str(user_path(out)))
