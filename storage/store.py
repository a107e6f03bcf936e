"""The contract of a store. Values go in and out by copy; every state change is checked against the table of moves."""

from collections.abc import Sequence
from typing import Any, Protocol

from space.document import FrontDocument
from space.measurement import Measurement
from space.plan import Plan
from space.spec import JobSpec
from storage.records import Asking, Job, JobState, Known, Trial, TrialState


class Store(Protocol):
    """Remembers jobs, trials and measurements, for any number of threads and processes.

    All verbs raise StoreError when the database cannot be used or a value is not JSON (a number that is not finite).
    """

    def create_job(self, job_id: str, spec: JobSpec) -> Job:
        """Create a QUEUED job. Raises StateError if the id exists."""

    def get_job(self, job_id: str) -> Job:
        """Return a job. Raises NotFoundError, naming the newest jobs."""

    def glance(self, job_id: str) -> Job:
        """Return a job without its facts and document, for who asks often. Raises NotFoundError."""

    def list_jobs(self) -> Sequence[Job]:
        """Return all jobs, newest first."""

    def set_job_state(self, job_id: str, state: JobState, error: str | None = None) -> Job:
        """Move a job, setting started_at or finished_at; QUEUED clears error, finished_at and cancel_requested.

        Raises NotFoundError, StateError.
        """

    def update_job(
        self,
        job_id: str,
        *,
        phase: str | None = None,
        facts: dict[str, Any] | None = None,
        document: FrontDocument | None = None,
    ) -> None:
        """Set what is given; facts are merged key by key. Raises NotFoundError."""

    def request_cancel(self, job_id: str) -> None:
        """Ask a job to stop; a QUEUED one becomes CANCELLED at once, a finished one is left alone. Idempotent.

        Raises NotFoundError.
        """

    def create_trials(self, trials: Sequence[Trial]) -> None:
        """Add trials of one job in one transaction. Raises NotFoundError, StateError if a number exists."""

    def finish_trial(
        self,
        job_id: str,
        number: int,
        state: TrialState,
        measurement: Measurement | None = None,
        reason: str | None = None,
    ) -> None:
        """Move a trial (WAITING trials start through RUNNING in the same step). Raises NotFoundError, StateError."""

    def set_held_out(self, job_id: str, number: int, measurement: Measurement) -> None:
        """Record a COMPLETE trial's held-out measurement. Raises NotFoundError, StateError for any other trial."""

    def list_trials(self, job_id: str) -> Sequence[Trial]:
        """Return a job's trials by number. Raises NotFoundError."""

    def requeue_trials(self, job_id: str) -> int:
        """Make RUNNING and STOPPED trials WAITING again, without reason, for a resumed job; return how many.

        Raises NotFoundError.
        """

    def put_measurement(
        self, plan: Plan, evaluation_digest: str, measurement: Measurement, asking: Asking | None = None
    ) -> None:
        """Remember a measurement under its key for all jobs, and who asked for it; an existing one is kept."""

    def find_measurement(self, plan: Plan, evaluation_digest: str) -> Measurement | None:
        """Return the known answer to (plan, evaluation), whoever measured it."""

    def list_measurements(self, evaluation_digests: Sequence[str]) -> Sequence[Known]:
        """Return all that is known of some evaluations, by evaluation and plan digest.

        Answers that an older tightfit wrote and whose plan no trial holds are left out.
        """

    def close(self) -> None:
        """Release the database."""
