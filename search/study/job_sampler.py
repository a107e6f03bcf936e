"""What a job asks of its study's sampler beside what Optuna asks of any."""

from typing import Protocol

from optuna.study import Study
from optuna.trial import Trial

from search.decide.observation import Proposal
from storage.job_facts import KeptLosses


class JobSampler(Protocol):
    """One of Optuna's samplers that knows batches; what it remembers is no more than the study and its records tell."""

    def batch_size(self, study: Study, limit: int) -> int:
        """Return how many trials, at most `limit`, may be asked before others are told; zero ends the search."""

    def proposal(self, trial: Trial) -> Proposal:
        """Return what was proposed as a trial that was just asked."""

    def replayed(self, study: Study) -> None:
        """Take note of a study that was rebuilt from records."""

    def kept_model(self) -> KeptLosses | None:
        """Return what was learnt about each module, as a job keeps it; None where no such thing is learnt."""
