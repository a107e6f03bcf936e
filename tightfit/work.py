"""A controller's life: claim a job or a task, run it, claim the next; take over what others left behind."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from space.errors import JobFailedError, LeaseLostError, OutageError, TightfitError
from storage.leases.deaths import check_task_deaths, count_death
from storage.leases.lease import Silence, holder_name, host_name
from storage.leases.outage_retry import held_store
from storage.point_tasks import PointTask, TaskLease, TaskState
from storage.private import make_private, make_private_file
from storage.records import Job, JobState, Lease
from storage.store import Store
from tightfit.config import ANOTHER_HOME, Settings
from workers.whole_files import writing

if TYPE_CHECKING:
    from search.job.job_steps import MakeExecutor
    from workers.pool.executor import Executor
    from workers.tasks import Workspace

POLL_SECONDS = 1.0
_WATCH_SECONDS = 1.0  # between two looks at a job whose controller may have gone
_AnyLease = TypeVar("_AnyLease", Lease, TaskLease)
_log = logging.getLogger("tightfit.work")


@dataclass
class Server:
    """Serves the queue of a store; any number of them, on any number of machines, may serve the same one.

    Attributes:
        store: where the jobs are.
        run: runs a claimed job to its end; an error of ours ends the job, not the server.
        silence: judges which jobs and tasks were left behind.
        poll_seconds: between looks at an empty queue.
        run_task: runs a claimed task likewise; without it tasks are left to others.
        rest_seconds: so long after the last job or task, with none since, `serve` returns; None: never for that.

    """

    store: Store
    run: Callable[[Lease], object]
    silence: Silence = field(default_factory=Silence)
    poll_seconds: float = POLL_SECONDS
    run_task: Callable[[TaskLease], object] | None = None
    rest_seconds: float | None = None

    def serve(self, *, until_idle: bool = False) -> int:
        """Run jobs and tasks, for ever, until none waits or runs anywhere, or until a rest; return how many jobs."""
        count, rests_at = 0, float("inf")
        while True:
            lease = self._next()
            if isinstance(lease, TaskLease):
                self._try(f"Task {lease.task_id}", self.run_task, lease)
            elif lease is not None:
                self._try(f"Job {lease.job_id}", self.run, lease)
                count += 1
            elif (until_idle and self._is_idle()) or time.monotonic() >= rests_at:
                return count
            else:
                time.sleep(self.poll_seconds)
            if lease is not None and self.rest_seconds is not None:
                rests_at = time.monotonic() + self.rest_seconds

    def _next(self) -> Lease | TaskLease | None:
        """Claim a task, for which people wait, a job that was left behind, or else the oldest that waits."""
        try:
            if (task := self._next_task()) is not None:
                return task
            for job in self.silence.lapsed(self.store.list_jobs([JobState.RUNNING])):
                if (lease := self.store.take_over(job, holder_name())) is not None and self._may_try(job, lease):
                    _log.warning("Job %s is taken over: its controller is gone.", job.job_id)
                    return lease
            return self.store.claim_job(holder_name())
        except OutageError as error:
            _log.warning("%s Trying again.", error)
            return None

    def _next_task(self) -> TaskLease | None:
        """Claim a task that was left behind, or else the oldest that may run here."""
        if self.run_task is None:
            return None
        for task in self.silence.lapsed_tasks(self.store.list_tasks(states=[TaskState.RUNNING])):
            if not _runs_here(task) or (lease := self.store.take_over_task(task, holder_name())) is None:
                continue
            try:
                check_task_deaths(task)
            except JobFailedError as error:
                held_store(self.store, lease).set_task_state(task.task_id, TaskState.FAILED, str(error))
                _log.warning("Task %s: %s", task.task_id, error)
                continue
            _log.warning("Task %s is taken over: its controller is gone.", task.task_id)
            return lease
        return self.store.claim_task(holder_name(), host_name())

    def _may_try(self, job: Job, lease: Lease) -> bool:
        """Count the death of a job's controller; where it was one too many, the job is FAILED."""
        held = held_store(self.store, lease)
        try:
            count_death(held, job, lease)
        except LeaseLostError:
            return False
        except JobFailedError as error:
            held.set_job_state(job.job_id, JobState.FAILED, str(error))
            _log.warning("Job %s: %s", job.job_id, error)
            return False
        return True

    def _is_idle(self) -> bool:
        try:
            tasks = self.store.list_tasks(states=[TaskState.QUEUED, TaskState.RUNNING])
            waits = self.run_task is not None and any(map(_runs_here, tasks))
            return not waits and not self.store.list_jobs([JobState.QUEUED, JobState.RUNNING])
        except OutageError:
            return False

    def _try(self, name: str, run: Callable[[_AnyLease], object] | None, lease: _AnyLease) -> None:
        assert run is not None  # noqa: S101 (without it nothing of the kind is claimed)
        try:
            run(lease)
        except TightfitError as error:
            _log.warning("%s: %s", name, error)


def _runs_here(task: PointTask) -> bool:
    return task.host in (None, host_name())


def start_process(settings: Settings, job_id: str) -> int:
    """Run a queued job in a process of its own; return its id. Its log is in the home.

    Raises:
        OutputError: the log cannot be written.

    """
    log = settings.log_path(job_id)
    here = {"TIGHTFIT_HOME": str(settings.home), "TIGHTFIT_DATABASE_URL": settings.database_url}
    with writing(log, ANOTHER_HOME):
        make_private(log.parent)
        make_private_file(log)
        opened = log.open("ab")
    with opened as out:
        process = subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-P", "-m", "tightfit", "run", job_id],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            env=os.environ | here,
        )
    return process.pid


def executor_maker(*, inline: bool, num_workers: int | None) -> "MakeExecutor":
    """Return what starts a job's workers: in this process, or on Ray, as many as given or as the job asked for."""
    from workers.pool.executor import InlineExecutor

    if inline:
        return lambda workspace, _: InlineExecutor(workspace)

    def start(workspace: "Workspace", asked: int) -> "Executor":
        from workers.pool.ray_executor import RayExecutor  # only where a task must run

        return RayExecutor(workspace, num_workers or asked)

    return start


def requeued(store: Store, job: Job, lease_seconds: float) -> Job:
    """Queue a job again; a RUNNING one is watched for the time of a lease, and returned as it is if it goes on."""
    gone = _found_gone(job, lambda: store.get_job(job.job_id), Silence(lease_seconds).lapsed, lease_seconds)
    return store.resume_job(job.job_id, gone)


def requeued_task(store: Store, task: PointTask, lease_seconds: float) -> PointTask:
    """Queue a task again; a RUNNING one is watched for the time of a lease, and returned as it is if it goes on."""
    look, lapsed = lambda: store.get_task(task.task_id), Silence(lease_seconds).lapsed_tasks
    return store.resume_task(task.task_id, _found_gone(task, look, lapsed, lease_seconds))


_Held = TypeVar("_Held", Job, PointTask)


def _found_gone(
    held: _Held, look: Callable[[], _Held], lapsed: Callable[[Sequence[_Held]], list[_Held]], lease_seconds: float
) -> _Held | None:
    """Return a RUNNING job or task as it is where its holder is found gone; None where it goes on or does not run."""
    seen = (held.token, held.beat)
    while held.state == "RUNNING" and (held.token, held.beat) == seen:
        if lapsed([held]):
            return held
        time.sleep(min(_WATCH_SECONDS, lease_seconds / 10))
        held = look()
    return None
