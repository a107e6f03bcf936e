"""A store that outlasts an outage: what a controller writes to while the database restarts."""

import logging
import time
from collections.abc import Callable
from typing import Any, cast

from space.errors import OutageError, StateError
from storage.records import Lease
from storage.store import Store

PATIENCE_SECONDS = 120.0
_PAUSE_SECONDS = 0.5
_log = logging.getLogger("tightfit.store")


def held_store(store: Store, lease: Lease, patience_seconds: float = PATIENCE_SECONDS) -> Store:
    """Return a store for the holder of a lease: fenced, and patient while the database is away.

    A write whose answer was lost on the way is not repeated where the records show it.
    """
    return cast("Store", _Patient(store.holding(lease), lease, patience_seconds))


class _Patient:
    """Passes every verb on, again and again while the database cannot be reached."""

    def __init__(self, store: Store, lease: Lease, patience_seconds: float) -> None:
        self._store, self._lease, self._patience = store, lease, patience_seconds

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            deadline = None
            while True:
                try:
                    return verb(*args, **kwargs)
                except OutageError as error:
                    now = time.monotonic()
                    if deadline is None:
                        _log.warning("%s Trying again for %.0f s.", error, self._patience)
                        deadline = now + self._patience
                    if now >= deadline:
                        raise
                    time.sleep(_PAUSE_SECONDS)
                except StateError:
                    if deadline is None or not self._was_done(name, *args):
                        raise
                    return self._store.get_job(self._lease.job_id) if name == "set_job_state" else None

        return call

    def _was_done(self, name: str, *args: Any) -> bool:
        """Tell whether the records show what a verb, now refused, was to write: its first attempt had succeeded."""
        if name == "set_job_state":
            job = self._store.get_job(self._lease.job_id)
            return (job.state, job.token) == (args[1], self._lease.token)
        states = {t.number: (t.plan, t.state) for t in self._store.list_trials(self._lease.job_id)}
        if name == "create_trials":
            return all(states.get(trial.number) == (trial.plan, trial.state) for trial in args[0])
        return name == "finish_trial" and states.get(args[1], (None, None))[1] == args[2]
