"""How much each user may have: jobs and workers at a time, minutes a day, disk. Administrators have no limit."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from space.budget import format_bytes
from space.errors import QuotaError
from space.spec import JobSpec
from storage.job_summary import Overview, Wanted
from storage.records import JobState
from tightfit.http.callers import Caller, Scope
from tightfit.service import Service
from tightfit.uploads.upload_store import UploadStore

_DAY = timedelta(days=1)
_MINUTE = 60.0
_ALL = 10**6


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most that a user may have; None: any number.

    Attributes:
        jobs: that wait, run or are paused at a time.
        workers: of those jobs together; where there are GPUs, each has one.
        minutes: that jobs of the last 24 hours searched, or may yet search.
        disk_bytes: of uploads and exports in the home.

    """

    jobs: int | None = None
    workers: int | None = None
    minutes: int | None = None
    disk_bytes: int | None = None

    @property
    def limits_jobs(self) -> bool:
        """Tell whether any of them is about jobs."""
        return (self.jobs, self.workers, self.minutes) != (None, None, None)

    def check_job(self, service: Service, caller: Caller, spec: JobSpec) -> None:
        """Refuse a job that would be more than its user may have. Raises QuotaError."""
        if caller.may(Scope.ADMIN) or not self.limits_jobs:
            return
        states = None if self.minutes is not None else frozenset(s for s in JobState if not s.is_finished)
        mine, _ = service.store.page_overviews(Wanted(caller.user, states), None, _ALL)
        busy = [found for found in mine if not found.state.is_finished]
        specs = {found.job_id: service.store.glance(found.job_id).spec for found in busy}
        if self.jobs is not None and len(busy) >= self.jobs:
            raise QuotaError(
                f"{caller.user} has {len(busy)} jobs that wait, run or are paused, and may have {self.jobs}. Wait for "
                "one, or cancel one."
            )
        taken = sum(found.workers for found in specs.values())
        if self.workers is not None and taken + spec.workers > self.workers:
            raise QuotaError(
                f"{caller.user}'s jobs have {taken} workers, and may have {self.workers} together: this one asks for "
                f"{spec.workers}. Ask for fewer workers, or wait for a job."
            )
        if self.minutes is not None:
            self._check_minutes(caller, spec, self.minutes, sum(_minutes(found, specs) for found in mine))

    def check_disk(self, service: Service, uploads: UploadStore, caller: Caller, size_bytes: int) -> None:
        """Refuse so many bytes more than a user's uploads and exports may take. Raises QuotaError."""
        if caller.may(Scope.ADMIN) or self.disk_bytes is None:
            return
        sent = sum(found.announced.size_bytes for found in uploads.list() if found.announced.user == caller.user)
        outs = [Path(task.out) for task in service.tasks() if task.user == caller.user]
        written = sum(_size(out) for out in outs if service.settings.holds_export(out))
        if sent + written + size_bytes > self.disk_bytes:
            raise QuotaError(
                f"{caller.user}'s uploads take {format_bytes(sent)} and exports {format_bytes(written)}, and may take "
                f"{format_bytes(self.disk_bytes)} together: this one asks for {format_bytes(size_bytes)}. Delete some."
            )

    def _check_minutes(self, caller: Caller, spec: JobSpec, minutes: int, taken: float) -> None:
        left = minutes - taken
        if spec.max_minutes is None or spec.max_minutes > left:
            asked = "has none" if spec.max_minutes is None else f"has {spec.max_minutes:g}"
            raise QuotaError(
                f"{caller.user}'s jobs of the last 24 hours took or may take {taken:.0f} of {minutes} minutes: a "
                f"request needs `max_minutes` of at most {max(left, 0):.0f}, and this one {asked}. Lower it, or wait."
            )


def _minutes(found: Overview, specs: dict[str, JobSpec]) -> float:
    """Return the minutes that a job took within a day, or may yet take."""
    took = found.summary.elapsed_seconds / _MINUTE if found.summary else 0.0
    if found.finished_at is not None and found.state.is_finished:
        return took if datetime.now(UTC) - found.finished_at < _DAY else 0.0
    asked = specs[found.job_id].max_minutes if found.job_id in specs else None
    return max(took, asked or 0.0)


def _size(folder: Path) -> int:
    """Return what a folder's files take; nothing where there is none."""
    return sum(path.stat().st_size for path in folder.glob("**/*") if path.is_file())
