"""A controller's life: claim a job, run it, claim the next; take over what others left behind."""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from space.errors import JobFailedError, LeaseLostError, OutageError, TightfitError
from storage.leases.deaths import count_death
from storage.leases.lease import Silence, holder_name
from storage.leases.outage_retry import held_store
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
_log = logging.getLogger("tightfit.work")


@dataclass
class Server:
    """Serves the queue of a store; any number of them, on any number of machines, may serve the same one.

    Attributes:
        store: where the jobs are.
        run: runs a claimed job to its end; an error of ours ends the job, not the server.
        silence: judges which jobs were left behind.
        poll_seconds: between looks at an empty queue.

    """

    store: Store
    run: Callable[[Lease], object]
    silence: Silence = field(default_factory=Silence)
    poll_seconds: float = POLL_SECONDS

    def serve(self, *, until_idle: bool = False) -> int:
        """Run jobs, for ever or until none is QUEUED or RUNNING anywhere; return how many were run."""
        count = 0
        while True:
            lease = self._next()
            if lease is not None:
                self._run(lease)
                count += 1
            elif until_idle and self._is_idle():
                return count
            else:
                time.sleep(self.poll_seconds)

    def _next(self) -> Lease | None:
        """Claim a job that was left behind, or else the oldest that waits."""
        try:
            for job in self.silence.lapsed(self.store.list_jobs([JobState.RUNNING])):
                if (lease := self.store.take_over(job, holder_name())) is not None and self._may_try(job, lease):
                    _log.warning("Job %s is taken over: its controller is gone.", job.job_id)
                    return lease
            return self.store.claim_job(holder_name())
        except OutageError as error:
            _log.warning("%s Trying again.", error)
            return None

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
            return not self.store.list_jobs([JobState.QUEUED, JobState.RUNNING])
        except OutageError:
            return False

    def _run(self, lease: Lease) -> None:
        try:
            self.run(lease)
        except TightfitError as error:
            _log.warning("Job %s: %s", lease.job_id, error)


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
    silence, seen = Silence(lease_seconds), (job.token, job.beat)
    while job.state is JobState.RUNNING and (job.token, job.beat) == seen:
        if silence.lapsed([job]):
            return store.resume_job(job.job_id, job)
        time.sleep(min(_WATCH_SECONDS, lease_seconds / 10))
        job = store.get_job(job.job_id)
    return store.resume_job(job.job_id)
