"""A home of this machine as a place where jobs are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from space.results.explanation import Explanation
from storage.job_summary import Wanted
from storage.records import Job
from tightfit.jobs.job_status import ExportStatus, JobStatus
from tightfit.listen import TerminalListener
from tightfit.places.place import Tell
from tightfit.report.notebook_front import Front
from tightfit.service import Service
from tightfit.tasks.asked_recovery import RecoverWish
from tightfit.tasks.export_wish import ExportWish

if TYPE_CHECKING:
    from space.spec import JobSpec
    from tightfit.estimate import DryRun
    from tightfit.exporting import Exported


@dataclass(frozen=True, slots=True)
class AtHome:
    """Asks the service object of a home; see `Place`."""

    service: Service

    @property
    def name(self) -> str:
        """Return the home's folder."""
        return str(self.service.settings.home)

    @property
    def is_here(self) -> bool:
        """Return that this process can run jobs."""
        return True

    def jobs(self, wanted: Wanted | None = None) -> Sequence[JobStatus]:
        """Return the jobs that fit, newest first."""
        log, found = self.service.settings.log_path, self.service.store.list_overviews()
        return [JobStatus.of(job, log(job.job_id)) for job in found if wanted is None or wanted.has(job)]

    def describe(self, job_id: str, told: Mapping[str, str | None]) -> JobStatus:
        """Set what is given of a job's label and note."""
        found = self.service.store.overview(job_id)
        self.service.store.describe_job(job_id, **{"label": found.label, "note": found.note, **told})
        return self.job(job_id)

    def delete(self, job_id: str) -> None:
        """Delete a job that rests."""
        self.service.delete(job_id)

    def job(self, job_id: str) -> JobStatus:
        """Return how far a job is."""
        return JobStatus.of(self.service.store.overview(job_id), self.service.settings.log_path(job_id))

    def spec(self, job_id: str) -> "JobSpec":
        """Return what was asked of a job."""
        return self.service.store.glance(job_id).spec

    def log(self, job_id: str, after: int) -> tuple[str, int] | None:
        """Return a job's log from some byte on."""
        path = self.service.settings.log_path(job_id)
        if not path.exists():
            return None
        with path.open("rb") as file:
            file.seek(after)
            part = file.read()
        return part.decode(errors="replace"), after + len(part)

    def told_log(self, job_id: str) -> str:
        """Return where a job's log would be."""
        return f"this home ({self.service.settings.log_path(job_id)})"

    def front(self, job_id: str) -> Front:
        """Return a job's front."""
        return self.service.front(job_id)

    def explain(self, job_id: str, point: str | None) -> Explanation:
        """Return why each module has its level at a point."""
        return self.service.explain(job_id, point)

    def explanations(self, job_id: str) -> Mapping[str, Explanation]:
        """Return point -> explanation of a whole front."""
        return self.service.explanations(job_id)

    def report(self, job_id: str) -> str:
        """Return a job's report."""
        return self.service.report(job_id)

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost."""
        return self.service.dry_run(spec)

    def submit(self, spec: "JobSpec") -> JobStatus:
        """Queue a new job."""
        return self._told(self.service.submit(spec))

    def run(self, job_id: str, num_workers: int | None = None) -> JobStatus:
        """Run a queued job in this process; its steps are told on stderr."""
        return self._told(self.service.run(job_id, TerminalListener(), num_workers=num_workers))

    def start_detached(self, job_id: str) -> None:
        """Have a process of its own run a queued job."""
        self.service.start_detached(job_id)

    def pause(self, job_id: str) -> JobStatus:
        """Ask a job to stop until it is resumed."""
        return self._told(self.service.pause(job_id))

    def cancel(self, job_id: str) -> JobStatus:
        """Ask a job to stop."""
        return self._told(self.service.cancel(job_id))

    def requeue(self, job_id: str) -> JobStatus:
        """Queue a job again."""
        return self._told(self.service.requeue(job_id))

    def exports(self, job_id: str | None = None) -> Sequence[ExportStatus]:
        """Return exports, newest first."""
        return [ExportStatus.of(task) for task in self.service.tasks(job_id)]

    def export_status(self, task_id: str) -> ExportStatus:
        """Return how far an export is."""
        return ExportStatus.of(self.service.store.get_task(task_id))

    def export(self, job_id: str, wish: ExportWish, tell: Tell) -> "Exported":
        """Write a point in this process."""
        asked = (wish.out, wish.point, wish.budget, wish.target)
        return self.service.export(job_id, *asked, refit=wish.refit, recovery=wish.recovery, tell=tell)

    def queue_export(self, job_id: str, wish: ExportWish) -> ExportStatus:
        """Leave an export to those that work on this host."""
        asked = (wish.out, wish.point, wish.budget, wish.target)
        task = self.service.queue_export(job_id, *asked, refit=wish.refit, recovery=wish.recovery)
        return ExportStatus.of(task)

    def run_export(self, task_id: str, tell: Tell) -> "Exported":
        """Run a queued export in this process."""
        return self.service.run_export(task_id, tell)

    def recover(self, job_id: str, wish: RecoverWish, tell: Tell) -> ExportStatus:
        """Make a point better in this process."""
        return ExportStatus.of(self.service.recover(job_id, wish, tell))

    def queue_recovery(self, job_id: str, wish: RecoverWish) -> ExportStatus:
        """Leave a recovery to those that work on this host."""
        return ExportStatus.of(self.service.queue_recovery(job_id, wish))

    def run_recovery(self, task_id: str, tell: Tell) -> ExportStatus:
        """Run a queued recovery in this process."""
        return ExportStatus.of(self.service.run_recovery(task_id, tell))

    def cancel_export(self, task_id: str) -> ExportStatus:
        """Ask an export to stop."""
        return ExportStatus.of(self.service.cancel_task(task_id))

    def requeue_export(self, task_id: str) -> ExportStatus:
        """Queue an export again."""
        return ExportStatus.of(self.service.requeue_task(task_id))

    def _told(self, job: Job) -> JobStatus:
        return self.job(job.job_id)
