"""The trials of one job as its controller knows them: read once, then kept by its own writes (nobody else writes)."""

from collections.abc import Sequence
from dataclasses import replace

from search.decide.observation import Proposal
from space.measurement import Measurement
from space.plan import Plan
from storage.records import Known, Trial, TrialState
from storage.store import Store

"""In a trial's sampler state: the number of the first trial asked with it; what earlier jobs knew has none."""


def is_known(trial: Trial) -> bool:
    """Tell whether a trial is an earlier job's, which this one got for nothing."""
    return trial.sampler_state.known


def num_new(trials: Sequence[Trial]) -> int:
    """Return how many trials are a job's own."""
    return sum(not is_known(t) for t in trials)


def proposal_of(trial: Trial) -> Proposal:
    """Return what was proposed as a trial."""
    state = trial.sampler_state
    base = Plan.from_json(state.base) if state.base else None
    return Proposal(trial.plan, trial.origin, state.num_sequences, base)


class TrialRecords:
    """A job's trials, in the store first and then here; thousands are not read again for every batch."""

    def __init__(self, store: Store, job_id: str) -> None:
        """Read what is recorded."""
        self._store, self._job_id = store, job_id
        self._trials = list(store.list_trials(job_id))

    def all(self) -> Sequence[Trial]:
        """Return the trials by number, as they are now."""
        return tuple(self._trials)

    def create(self, trials: Sequence[Trial]) -> None:
        """Add trials. Raises StateError if a number exists."""
        self._store.create_trials(trials)
        self._trials += trials

    def finish(
        self,
        number: int,
        state: TrialState,
        measurement: Measurement | None = None,
        reason: str | None = None,
        known: Known | None = None,
    ) -> None:
        """Move a trial to its end, and remember what other jobs shall know too. Raises StateError."""
        self._store.finish_trial(self._job_id, number, state, measurement, reason, known)
        kept = None if measurement is None else replace(measurement, sketch=None)
        self._trials[number] = replace(self._trials[number], state=state, measurement=kept, reason=reason)

    def hold_out(self, number: int, measurement: Measurement) -> None:
        """Record a COMPLETE trial's held-out measurement. Raises StateError."""
        self._store.set_held_out(self._job_id, number, measurement)
        self._trials[number] = replace(self._trials[number], held_out=measurement)
