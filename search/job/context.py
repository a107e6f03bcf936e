"""What every step of a job needs: its records, its request, and who hears about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from search.decide.trial_limits import max_trials
from search.measure.dispatch import StopRequestedError
from search.measure.trial_records import TrialRecords
from search.progress.running_summary import Reporter
from search.request.prepare import Prepared
from space.spec import JobSpec
from storage.job_facts import JobFacts
from storage.records import Job, JobState, Lease, Trial, lease_lost
from storage.store import Store


class PauseRequestedError(StopRequestedError):
    """Somebody asked the job to stop for a while."""


class Listener(Protocol):
    """Who is told what a job does, as it does it."""

    def phase(self, job: Job, text: str) -> None:
        """Take note of a step."""

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Take note of the state of the search after a batch."""


@dataclass(frozen=True)
class Context:
    """A running job.

    Attributes:
        store: where its records are.
        job: as it was when it started.
        prepared: its model, space and budget.
        listener: who hears about it.

    """

    store: Store
    job: Job
    prepared: Prepared
    listener: Listener

    @property
    def job_id(self) -> str:
        """Return the job's name."""
        return self.job.job_id

    @property
    def spec(self) -> JobSpec:
        """Return the request."""
        return self.job.spec

    @property
    def max_trials(self) -> int:
        """Return the most trials to measure."""
        return max_trials(self.spec, len(self.prepared.space.items))

    @property
    def uniform_digests(self) -> set[str]:
        """Return the digests of the uniform plans."""
        return {plan.digest for _, plan in self.prepared.space.uniform_plans()}

    @property
    def reference_digests(self) -> set[str]:
        """Return the digests of all plans that the front is compared with: they are judged whatever it costs."""
        return {plan.digest for plan in self.prepared.space.reference_plans()}

    @cached_property
    def records(self) -> TrialRecords:
        """Return the trials, to read and to write."""
        return TrialRecords(self.store, self.job_id)

    @cached_property
    def reporter(self) -> Reporter:
        """Return who keeps the job's summary, and its time."""
        return Reporter(self.store, self.job, self.prepared, self.trials)

    def trials(self) -> Sequence[Trial]:
        """Return the trials recorded so far."""
        return self.records.all()

    def facts(self) -> JobFacts:
        """Return what is recorded beside the trials."""
        return self.store.get_job(self.job_id).facts

    def spend(self, what: str, token_forwards: float) -> None:
        """Record a cost that is no trial's, under a name; the same name again replaces it."""
        spent = {**(self.facts().spent or {}), what: token_forwards}
        self.store.update_job(self.job_id, facts=JobFacts(spent=spent))

    @property
    def spent(self) -> float:
        """Return the token-forwards that were spent on no trial."""
        return float(sum((self.facts().spent or {}).values()))

    def note(self, text: str, *, timed: bool = False) -> None:
        """Record a step and tell it; `timed` tells listeners how much is done and left, as the summary tells others."""
        self.store.update_job(self.job_id, phase=text)
        self.reporter.write()
        self.listener.phase(self.job, f"{text} ({self.reporter.told()})" if timed else text)

    def check_stop(self) -> None:
        """Look whether the job may go on, and keep its summary up to date.

        Raises:
            StopRequestedError: somebody asked it to stop.
            PauseRequestedError: for a while.
            LeaseLostError: another controller has it now.

        """
        job = self.store.glance(self.job_id)
        if job.state is not JobState.RUNNING or job.token != self.job.token:
            raise lease_lost(Lease(self.job_id, str(self.job.holder), self.job.token), job)
        if job.cancel_requested:
            raise StopRequestedError
        if job.pause_requested:
            raise PauseRequestedError
        self.reporter.write_if_due()
