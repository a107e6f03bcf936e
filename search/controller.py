"""Jobs from QUEUED to their end: the only writer of a running job's records, which come before all else."""

from contextlib import closing, suppress
from pathlib import Path

from search.job.context import Listener, PauseRequestedError
from search.job.job_steps import MakeExecutor, Run
from search.measure.dispatch import StopRequestedError
from space.errors import JobTakenError, LeaseLostError, OutageError, StateError, StoreError, TightfitError
from storage.leases.lease import LEASE_SECONDS, holder_name, keeping
from storage.leases.outage_retry import held_store
from storage.records import Job, JobState, Lease
from storage.store import Store

__all__ = ["Controller", "Listener", "MakeExecutor"]


class Controller:
    """Runs jobs of one store with one kind of executor."""

    def __init__(
        self,
        store: Store,
        make_executor: MakeExecutor,
        cache_folder: Path,
        listener: Listener,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        """Remember the parts."""
        self._store, self._make_executor = store, make_executor
        self._cache_folder, self._listener = cache_folder, listener
        self._lease_seconds = lease_seconds

    def run(self, job_id: str) -> Job:
        """Claim a QUEUED job and run it; see `run_held`.

        Raises:
            JobTakenError: it is not QUEUED.

        """
        lease = self._store.claim_job(holder_name(), job_id)
        if lease is None:
            state = self._store.get_job(job_id).state
            raise JobTakenError(f"Job {job_id} is {state}; only QUEUED jobs run. `tightfit resume {job_id}` queues it.")
        return self.run_held(lease)

    def run_held(self, lease: Lease) -> Job:
        """Run a claimed job to its end and return it: DONE, or CANCELLED or PAUSED with the front so far.

        Raises:
            LeaseLostError: another controller has the job now; nothing was written since.
            OutageError: the database stayed away; the job can be resumed or taken over.
            TightfitError: the job FAILED; the error is recorded with it.

        """
        store = held_store(self._store, lease)
        with keeping(self._store, lease, self._lease_seconds), closing(_Running()) as running:
            try:
                running.run = Run(
                    store, store.get_job(lease.job_id), self._listener, self._cache_folder, self._make_executor
                )
                running.run.go()
                return store.set_job_state(lease.job_id, JobState.DONE)
            except (LeaseLostError, OutageError):
                raise
            except StopRequestedError as stop:
                paused = isinstance(stop, PauseRequestedError)
                return _stopped(store, lease, running.run, JobState.PAUSED if paused else JobState.CANCELLED)
            except KeyboardInterrupt:
                _stopped(store, lease, running.run, JobState.CANCELLED)
                raise
            except SystemExit:  # told to go (SIGTERM): another controller may have the job at once
                store.set_job_state(lease.job_id, JobState.QUEUED)
                raise
            except Exception as error:
                reason = str(error) if isinstance(error, TightfitError) else repr(error)
                running.report()
                with suppress(StoreError, StateError):  # a full disk takes this write neither
                    store.set_job_state(lease.job_id, JobState.FAILED, reason)
                raise


class _Running:
    """The run of a job, once it is made."""

    run: Run | None = None

    def report(self) -> None:
        """Bring the job's summary up to date, where that can be done."""
        with suppress(StoreError, StateError):
            if self.run is not None:
                self.run.report()

    def close(self) -> None:
        """Stop its workers."""
        if self.run is not None:
            self.run.close()


def _stopped(store: Store, lease: Lease, run: Run | None, state: JobState) -> Job:
    """Record the front so far, then the state."""
    try:
        if run is not None:
            run.publish(state)
    finally:
        store.set_job_state(lease.job_id, state)
    return store.get_job(lease.job_id)
