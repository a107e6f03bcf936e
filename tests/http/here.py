"""A judge of requests for tests: in this process, which has everything loaded."""

from dataclasses import dataclass

from space.spec import JobSpec
from storage.point_tasks import PointTask
from storage.records import Job
from tests.end_to_end.jobs import PlainService
from tightfit.estimate import DryRun
from tightfit.tasks.asked_recovery import RecoverWish


@dataclass(frozen=True)
class Here:
    """Judges requests in this process, which has everything loaded."""

    service: PlainService

    def dry_run(self, spec: JobSpec) -> DryRun:
        """Return what a job would cost."""
        return self.service.dry_run(spec)

    def submit(self, spec: JobSpec, user: str | None, *, anew: bool = False) -> Job:
        """Queue a job."""
        return self.service.submit(spec, user, once=not anew)

    def recover(self, job_id: str, wish: RecoverWish, user: str | None) -> PointTask:
        """Queue a recovery."""
        return self.service.queue_recovery(job_id, wish, user)

    def close(self) -> None:
        """Pass."""
