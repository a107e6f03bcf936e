"""The contract of a store. Values go in and out by copy; every state change is checked against the table of moves."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from space.measurement import Measurement
from space.plan import Plan
from space.results.document import FrontDocument
from storage.job_facts import JobFacts
from storage.job_summary import Overview, Summary, Wanted
from storage.people import PeopleStore
from storage.point_tasks import TaskLease
from storage.records import Job, JobState, Known, Lease, Trial, TrialState
from storage.task_store import TaskStore

if TYPE_CHECKING:
    from space.spec import JobSpec


class Store(TaskStore, PeopleStore, Protocol):
    """Remembers jobs, trials, measurements, events, tasks and people, for any number of threads and processes.

    All verbs raise StoreError when the database cannot be used or a value is not JSON (a number that is not finite).
    """

    def create_job(self, job_id: str, spec: "JobSpec", user: str | None = None) -> Job:
        """Create a QUEUED job of a user. Raises StateError if the id exists."""

    def get_job(self, job_id: str) -> Job:
        """Return a job. Raises NotFoundError, naming the newest jobs."""

    def glance(self, job_id: str) -> Job:
        """Return a job without its facts and document, for who asks often. Raises NotFoundError."""

    def list_jobs(self, states: Collection[JobState] | None = None) -> Sequence[Job]:
        """Return all jobs, or those in some states, newest first."""

    def overview(self, job_id: str) -> Overview:
        """Return a job in short, at a cost that does not depend on how much it measured. Raises NotFoundError."""

    def list_overviews(self) -> Sequence[Overview]:
        """Return all jobs in short, newest first, in one look."""

    def page_overviews(self, wanted: Wanted, after: str | None, limit: int) -> tuple[Sequence[Overview], int]:
        """Return the jobs that are wanted, newest first, at most so many, behind one of them; and how many there are.

        Raises NotFoundError where `after` is none of them.
        """

    def document(self, job_id: str) -> FrontDocument | None:
        """Return a job's front alone, for who asks often; None where there is none yet. Raises NotFoundError."""

    def put_summary(self, job_id: str, summary: Summary) -> None:
        """Keep how far a job is, in place of what was kept before. Raises NotFoundError."""

    def set_job_state(self, job_id: str, state: JobState, error: str | None = None) -> Job:
        """Move a job, setting started_at or finished_at; QUEUED clears error, finished_at and cancel_requested.

        A RUNNING job that is given back (QUEUED, PAUSED) while somebody asks it to stop is CANCELLED or PAUSED instead.
        Raises NotFoundError, StateError.
        """

    def update_job(
        self,
        job_id: str,
        *,
        phase: str | None = None,
        facts: JobFacts | None = None,
        document: FrontDocument | None = None,
    ) -> None:
        """Set what is given; facts that are given replace those of before, the others stay. Raises NotFoundError."""

    def describe_job(self, job_id: str, label: str | None, note: str | None) -> None:
        """Set what people call a job and note of it; None: nothing. Raises NotFoundError."""

    def request_cancel(self, job_id: str) -> None:
        """Ask a job to stop; a QUEUED or PAUSED one is CANCELLED at once, a finished one left alone. Idempotent.

        Raises NotFoundError.
        """

    def request_pause(self, job_id: str) -> None:
        """Ask a job to stop for a while; a QUEUED one is PAUSED at once, one that rests is left alone. Idempotent.

        Raises NotFoundError.
        """

    def resume_job(self, job_id: str, seen: Job | None = None) -> Job:
        """Queue a job that rests, its RUNNING and STOPPED trials WAITING again; take back a request to stop or pause.

        A QUEUED job is left alone, and so is a RUNNING one, unless it still is as it was `seen`, without a renewal of
        its lease since: its controller is gone then, for which the caller vouches. Idempotent. Raises NotFoundError.
        """

    def delete_job(self, job_id: str) -> None:
        """Delete a job that rests, with its trials, events and tasks; measurements stay for others.

        Raises NotFoundError; StateError where the job or one of its tasks is not at rest.
        """

    def claim_job(self, holder: str, job_id: str | None = None) -> Lease | None:
        """Claim a QUEUED job, and make it RUNNING; None where there is none.

        Unless one is named, users take turns: of those with a QUEUED job it is the turn of who has fewest that run, and
        of these of whose last one began longest ago; of a user's jobs the oldest is taken.

        Of any number of controllers that claim at once, one gets the job. Raises NotFoundError for an unknown name.
        """

    def take_over(self, job: Job, holder: str) -> Lease | None:
        """Claim a RUNNING job whose lease was not renewed since `job` was read; None where it was."""

    def renew(self, lease: Lease | TaskLease) -> None:
        """Count one more beat of a lease. Raises LeaseLostError."""

    def holding(self, lease: Lease | TaskLease) -> "Store":
        """Return this store for the controller of a job or task: every write first checks the lease, all in one.

        Writes raise LeaseLostError once another controller claimed the job or task or it is not RUNNING any more;
        `close` of either closes both.
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
        known: Known | None = None,
    ) -> None:
        """Move a trial (WAITING trials start through RUNNING in the same step). Raises NotFoundError, StateError.

        An answer that other jobs shall know too is put in the same transaction (see `put_measurement`).
        """

    def set_held_out(self, job_id: str, number: int, measurement: Measurement) -> None:
        """Record a COMPLETE trial's held-out measurement. Raises NotFoundError, StateError for any other trial."""

    def list_trials(self, job_id: str) -> Sequence[Trial]:
        """Return a job's trials by number. Raises NotFoundError."""

    def page_trials(self, job_id: str, after: int, limit: int) -> tuple[Sequence[Trial], int]:
        """Return a job's trials of higher numbers, at most so many, and how many it has. Raises NotFoundError."""

    def put_measurement(self, known: Known) -> None:
        """Remember a measurement under its key for all jobs, and who asked for it; an existing one is kept."""

    def find_measurements(self, keys: Sequence[tuple[Plan, str]]) -> Sequence[Measurement | None]:
        """Return the known answer to each (plan, evaluation digest), whoever measured it."""

    def list_measurements(self, evaluation_digests: Sequence[str]) -> Sequence[Known]:
        """Return all that is known of some evaluations, by evaluation and plan digest.

        Answers that an older tightfit wrote and whose plan no trial holds are left out.
        """

    def close(self) -> None:
        """Release the database."""
