"""Jobs from QUEUED to their end. The only writer of their records; what is recorded is recorded before it is told."""

from pathlib import Path

from search.context import Listener
from search.dispatch import StopRequestedError
from search.run import MakeExecutor, Run
from space.errors import TightfitError
from storage.records import Job, JobState
from storage.store import Store

__all__ = ["Controller", "Listener", "MakeExecutor"]


class Controller:
    """Runs jobs of one store with one kind of executor."""

    def __init__(self, store: Store, make_executor: MakeExecutor, cache_folder: Path, listener: Listener) -> None:
        """Remember the parts."""
        self._store, self._make_executor = store, make_executor
        self._cache_folder, self._listener = cache_folder, listener

    def run(self, job_id: str) -> Job:
        """Run a QUEUED job to its end and return it: DONE, or CANCELLED with the front so far.

        Raises:
            TightfitError: the job FAILED; the error is recorded with it.

        """
        job = self._store.set_job_state(job_id, JobState.RUNNING)
        run = None
        try:
            run = Run(self._store, job, self._listener, self._cache_folder, self._make_executor)
            run.go()
            return self._store.set_job_state(job_id, JobState.DONE)
        except StopRequestedError:
            return self._cancelled(job_id, run)
        except KeyboardInterrupt:
            self._cancelled(job_id, run)
            raise
        except TightfitError as error:
            self._store.set_job_state(job_id, JobState.FAILED, str(error))
            raise
        except Exception as error:
            self._store.set_job_state(job_id, JobState.FAILED, repr(error))
            raise
        finally:
            if run is not None:
                run.close()

    def _cancelled(self, job_id: str, run: Run | None) -> Job:
        self._store.set_job_state(job_id, JobState.CANCELLED)
        if run is not None:
            run.publish(JobState.CANCELLED)
        return self._store.get_job(job_id)
