"""The contract of a place where jobs are: a home, or a service. A face asks it, and shows the same of either."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from space.results.explanation import Explanation
from storage.job_summary import Wanted
from tightfit.jobs.job_status import ExportStatus, JobStatus
from tightfit.report.notebook_front import Front
from tightfit.tasks.asked_recovery import RecoverWish
from tightfit.tasks.export_wish import ExportWish

if TYPE_CHECKING:
    from space.spec import JobSpec
    from tightfit.estimate import DryRun
    from tightfit.exporting import Exported

Tell = Callable[[str], None]


class Place(Protocol):
    """Where jobs are. Errors are those of `Service`, wherever the place is."""

    @property
    def name(self) -> str:
        """Return the home's folder, or the service's address."""

    @property
    def is_here(self) -> bool:
        """Tell whether this process can run what is queued there: at a service its controllers do."""

    def jobs(self, wanted: Wanted | None = None) -> Sequence[JobStatus]:
        """Return the jobs that may be seen and fit, newest first."""

    def describe(self, job_id: str, told: Mapping[str, str | None]) -> JobStatus:
        """Set what is given of a job's `label` and `note`."""

    def delete(self, job_id: str) -> None:
        """Delete a job that rests, its log and its exports in the home."""

    def job(self, job_id: str) -> JobStatus:
        """Return how far a job is. Raises NotFoundError."""

    def spec(self, job_id: str) -> "JobSpec":
        """Return what was asked of a job. Raises NotFoundError."""

    def log(self, job_id: str, after: int) -> tuple[str, int] | None:
        """Return a job's log from some byte on, and where that ends; None where it has none there."""

    def told_log(self, job_id: str) -> str:
        """Return where a job's log would be, for people."""

    def front(self, job_id: str) -> Front:
        """Return a job's front. Raises JobFailedError where there is none yet."""

    def explain(self, job_id: str, point: str | None) -> Explanation:
        """Return why each module has its level at a point (None: the recommended one)."""

    def explanations(self, job_id: str) -> Mapping[str, Explanation]:
        """Return point -> explanation of a whole front; empty where the job kept no model of its losses."""

    def report(self, job_id: str) -> str:
        """Return a job's report: one self-contained HTML page."""

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost."""

    def submit(self, spec: "JobSpec") -> JobStatus:
        """Queue a new job."""

    def run(self, job_id: str, num_workers: int | None = None) -> JobStatus:
        """Run a queued job here to its end, or see that others do; return it as it is then.

        Raises:
            JobTakenError: another process of the home has it.

        """

    def start_detached(self, job_id: str) -> None:
        """Have a process of its own run a queued job, where nobody waits for such jobs."""

    def pause(self, job_id: str) -> JobStatus:
        """Ask a job to stop until it is resumed."""

    def cancel(self, job_id: str) -> JobStatus:
        """Ask a job to stop."""

    def requeue(self, job_id: str) -> JobStatus:
        """Queue a job again that rests or whose controller has gone."""

    def exports(self, job_id: str | None = None) -> Sequence[ExportStatus]:
        """Return the exports that may be seen, of all jobs or of one, newest first."""

    def export_status(self, task_id: str) -> ExportStatus:
        """Return how far an export is. Raises NotFoundError."""

    def export(self, job_id: str, wish: ExportWish, tell: Tell) -> "Exported":
        """Write a point into a folder of this machine; `tell` hears of its steps."""

    def queue_export(self, job_id: str, wish: ExportWish) -> ExportStatus:
        """Leave an export into a folder to those that work on this host."""

    def run_export(self, task_id: str, tell: Tell) -> "Exported":
        """Run a queued export, or see that others do, to its end."""

    def recover(self, job_id: str, wish: RecoverWish, tell: Tell) -> ExportStatus:
        """Make a point better in the same bytes, here or by the controllers there; `tell` hears of its steps.

        Raises:
            JobFailedError: it failed, or somebody cancelled it.

        """

    def queue_recovery(self, job_id: str, wish: RecoverWish) -> ExportStatus:
        """Leave a recovery to those that work."""

    def run_recovery(self, task_id: str, tell: Tell) -> ExportStatus:
        """Run a queued recovery, or see that others do, to its end."""

    def cancel_export(self, task_id: str) -> ExportStatus:
        """Ask an export to stop."""

    def requeue_export(self, task_id: str) -> ExportStatus:
        """Queue an export again that rests or whose process has gone."""
