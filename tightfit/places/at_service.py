"""A service as a place where jobs are: its controllers run them, and files come over the network."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from space.errors import JobFailedError, NotFoundError, UsageError
from space.results.explanation import Explanation
from storage.job_summary import Wanted
from storage.point_tasks import TaskState
from tightfit.client.remote_tasks import RemoteExport
from tightfit.client.sync_client import Client
from tightfit.client.wire import next_pause, request_of
from tightfit.export.early import check_free
from tightfit.jobs.job_filter import query_of
from tightfit.jobs.job_status import ExportStatus, JobStatus
from tightfit.places.place import Tell
from tightfit.report.notebook_front import Front
from tightfit.tasks.asked_recovery import RecoverWish
from tightfit.tasks.export_wish import ExportWish
from workers.bounded_files import user_path

if TYPE_CHECKING:
    from space.spec import JobSpec
    from tightfit.estimate import DryRun
    from tightfit.exporting import Exported

_PAGE = 1000

_ONLY_AT_HOME = ("processes", "sharding", "checkpointing", "temperature", "hard_labels")


@dataclass(frozen=True, slots=True)
class AtService:
    """Asks a service; see `Place`."""

    client: Client
    name: str
    is_here: bool = False

    def jobs(self, wanted: Wanted | None = None) -> Sequence[JobStatus]:
        """Return the jobs that the service shows and that fit, newest first."""
        asked = {} if wanted is None else query_of(wanted)
        return [JobStatus.from_json(value) for value in self.client.jobs(limit=_PAGE, **asked)]

    def describe(self, job_id: str, told: Mapping[str, str | None]) -> JobStatus:
        """Set what is given of a job's label and note."""
        return JobStatus.from_json(self.client.job(job_id).describe(**told))

    def delete(self, job_id: str) -> None:
        """Delete a job that rests."""
        self.client.job(job_id).delete()

    def job(self, job_id: str) -> JobStatus:
        """Return how far a job is."""
        return JobStatus.from_json(self.client.job(job_id).status())

    def spec(self, job_id: str) -> "JobSpec":
        """Return what was asked of a job."""
        from space.spec import make_spec

        return make_spec(**self.client.ask("GET", f"/v1/jobs/{job_id}/spec"))

    def log(self, job_id: str, after: int) -> tuple[str, int] | None:
        """Return a job's log from some byte on, at most a part of it."""
        found = self.client.ask("GET", f"/v1/jobs/{job_id}/logs", params={"after": after})
        return (found["text"], found["next"]) if found["next"] else None

    def told_log(self, job_id: str) -> str:  # noqa: ARG002 (it says no more)
        """Return whose log it would be."""
        return f"the home of {self.name}"

    def front(self, job_id: str) -> Front:
        """Return a job's front."""
        return self.client.job(job_id).front()

    def explain(self, job_id: str, point: str | None) -> Explanation:
        """Return why each module has its level at a point."""
        return Explanation.from_json(self.client.job(job_id).explain(point))

    def explanations(self, job_id: str) -> Mapping[str, Explanation]:
        """Return point -> explanation of a whole front."""
        points = [found.point for found in self.front(job_id).front]
        try:
            return {point: self.explain(job_id, point) for point in points}
        except NotFoundError:
            return {}

    def report(self, job_id: str) -> str:
        """Return a job's report."""
        return self.client.job(job_id).report()

    def dry_run(self, spec: "JobSpec") -> "DryRun":
        """Return what a job would search and cost."""
        from tightfit.estimate import DryRun

        return DryRun.from_json(self.client.ask("POST", "/v1/inspect", json=_asked(spec)))

    def submit(self, spec: "JobSpec") -> JobStatus:
        """Queue a new job."""
        key = {"Idempotency-Key": secrets.token_hex(16)}
        return JobStatus.from_json(
            self.client.ask("POST", "/v1/jobs", params={"anew": "true"}, json=_asked(spec), headers=key)
        )

    def run(self, job_id: str, num_workers: int | None = None) -> JobStatus:
        """Return a job as it is: the service's controllers run it."""
        if num_workers is not None:
            raise UsageError(f"--workers: {self.name} runs the job with its own workers; leave it out.")
        return self.job(job_id)

    def start_detached(self, job_id: str) -> None:
        """Pass: the service's controllers take what is queued."""

    def pause(self, job_id: str) -> JobStatus:
        """Ask a job to stop until it is resumed."""
        return JobStatus.from_json(self.client.job(job_id).pause())

    def cancel(self, job_id: str) -> JobStatus:
        """Ask a job to stop."""
        return JobStatus.from_json(self.client.job(job_id).cancel())

    def requeue(self, job_id: str) -> JobStatus:
        """Queue a job again."""
        return JobStatus.from_json(self.client.job(job_id).resume())

    def exports(self, job_id: str | None = None) -> Sequence[ExportStatus]:
        """Return the exports that the service shows, newest first."""
        if job_id is None:
            found = self.client.ask("GET", "/v1/exports")["exports"]
        else:
            names = ("exports", "recoveries")
            each = [self.client.ask("GET", f"/v1/jobs/{job_id}/{name}")[name] for name in names]
            found = sorted(chain(*each), key=itemgetter("created_at"), reverse=True)
        return [ExportStatus.from_json(value) for value in found]

    def export_status(self, task_id: str) -> ExportStatus:
        """Return how far an export is."""
        return ExportStatus.from_json(RemoteExport(self.client, task_id).status())

    def export(self, job_id: str, wish: ExportWish, tell: Tell) -> "Exported":
        """Have a point written by the service, and fetch its files."""
        out = user_path(wish.out)
        check_free(out)
        options: dict[str, Any] = {"target": wish.target, "refit": wish.refit}
        asked = self.client.job(job_id).export(wish.point, wish.budget, **options)
        found = self.run_export(asked.task_id, tell)
        arriving = out.with_name(f".{out.name}.arriving")
        asked.download(arriving)
        arriving.rename(out)
        commands = tuple(line.replace(found.path, str(out)) for line in found.commands)
        return replace(found, path=str(out), commands=commands)

    def queue_export(self, job_id: str, wish: ExportWish) -> ExportStatus:  # noqa: ARG002 (none can be met)
        """Refuse: nobody there writes into a folder of this machine."""
        raise UsageError(
            f"--queue: {self.name} writes into no folder of this machine; leave it out, and files are fetched."
        )

    def run_export(self, task_id: str, tell: Tell) -> "Exported":
        """Wait for an export that the service's controllers run."""
        from tightfit.exporting import Exported

        return Exported.of_result(self._ended("Export", task_id, tell).task.result or {})

    def recover(self, job_id: str, wish: RecoverWish, tell: Tell) -> ExportStatus:
        """Have a point made better by the service's controllers."""
        return self.run_recovery(self.queue_recovery(job_id, wish).task.task_id, tell)

    def queue_recovery(self, job_id: str, wish: RecoverWish) -> ExportStatus:
        """Leave a recovery to the service's controllers."""
        options = asdict(wish)
        for name in _ONLY_AT_HOME:
            if options.pop(name) != getattr(RecoverWish(), name):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{option}: the service does not take it; leave it out, or name a --home of this machine."
                )
        asked = self.client.job(job_id).recover(options.pop("point"), **options)
        return ExportStatus.from_json(asked.status())

    def run_recovery(self, task_id: str, tell: Tell) -> ExportStatus:
        """Wait for a recovery that the service's controllers run."""
        found = self._ended("Recovery", task_id, tell)
        if told := (found.task.result or {}).get("told"):
            tell(told)
        return found

    def _ended(self, name: str, task_id: str, tell: Tell) -> ExportStatus:
        """Return a task that the service's controllers run once it is DONE."""
        told, pause = "", None
        while not (status := self.export_status(task_id)).task.state.rests:
            if status.task.progress and status.task.progress != told:
                told = status.task.progress
                tell(told)
            pause = next_pause(pause)
            time.sleep(pause)
        found = status.task
        if found.state is TaskState.FAILED:
            raise JobFailedError(str(found.error))
        if found.state is not TaskState.DONE or found.result is None:
            raise JobFailedError(f"{name} {task_id} was cancelled; `tightfit resume {task_id}` begins again.")
        return status

    def cancel_export(self, task_id: str) -> ExportStatus:
        """Ask an export to stop."""
        return ExportStatus.from_json(RemoteExport(self.client, task_id).cancel())

    def requeue_export(self, task_id: str) -> ExportStatus:
        """Queue an export again."""
        return ExportStatus.from_json(self.client.ask("POST", f"/v1/exports/{task_id}/resume"))


def _asked(spec: "JobSpec") -> dict[str, Any]:
    return request_of(spec.model, spec.budget, spec.model_dump(mode="json", exclude={"model", "budget"}))
