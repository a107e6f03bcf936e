"""The summary of a running job, kept up to date: for lists of jobs, and for whoever watches it."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from search.decide.trial_limits import expected_sequences
from search.measure.trial_records import is_known
from search.progress.forecast import Forecast
from search.progress.phases import PHASES, SEARCH, expected_seconds, search_share, warm_search_seconds
from search.request.prepare import Prepared
from space.results.document import FrontDocument
from space.results.price import MarginalPrice
from storage.job_summary import Recommended, Summary, told_seconds
from storage.records import Job, Trial
from storage.store import Store

_MIN_SECONDS = 1.0  # between two writes that nothing but the time asks for
_MAX_SHARE = 0.02  # of a job's time that they may take


class Reporter:
    """Told what a job does, writes its summary; the time of all its runs is counted here."""

    def __init__(self, store: Store, job: Job, prepared: Prepared, trials: Callable[[], Sequence[Trial]]) -> None:
        """Start the clock; go on from what an earlier run of the job took."""
        self._store, self._job, self._prepared, self._trials = store, job, prepared, trials
        last = store.overview(job.job_id).summary
        told = last.elapsed_seconds if last is not None else 0.0  # also of a run that ended before its next front
        self._before = max(job.facts.wall_seconds or 0.0, told)
        minutes = job.spec.max_minutes
        limit = None if minutes is None else 60 * minutes
        self._forecast = Forecast(expected_seconds(job.spec, prepared), limit)
        self._found = Summary(datetime.now(UTC))
        self._next = 0.0
        self._spent_tokens, self._expected_tokens = 0.0, 0.0
        self._num_ended = 0  # of the job's own trials; all are looked at once per batch, not once per trial

    @property
    def elapsed_seconds(self) -> float:
        """Return the time of all runs of the job."""
        return self._before + self._forecast.elapsed_seconds

    def enter(self, phase: str, share: float = 0.0) -> None:
        """Take note that a phase begins, with a share that is done already."""
        self._forecast.enter(phase, share)

    def advance(self, share: float) -> None:
        """Take note of how much of the phase is done, 0 to 1."""
        self._forecast.advance(share)

    def enter_search(self, *, warm: bool) -> None:
        """Take note that the search begins, where an earlier run of the job left it."""
        spec, prepared = self._job.spec, self._prepared
        seconds = warm_search_seconds(spec, prepared) if warm else None
        whole = expected_seconds(spec, prepared)[SEARCH]
        sequences = expected_sequences(spec, len(prepared.space.items))
        share = 1.0 if seconds is None else seconds / whole
        self._expected_tokens = share * sequences * spec.sequence_length
        self._spent_tokens = sum(t.measurement.token_forwards for t in self._trials() if t.measurement)
        self._count_ended()
        self._forecast.enter(SEARCH, self._search_share(), seconds)

    def measured(self, token_forwards: float) -> None:
        """Take note of a measurement of the search."""
        self._spent_tokens += token_forwards
        self._num_ended += 1
        self._forecast.advance(self._search_share())

    def found(self, metrics: Mapping[str, float]) -> None:
        """Take note of how far the search is, by its own text; where a front is judged already, that one stands."""
        self._count_ended()
        if self._found.measured_on == "held_out":
            return
        price = None
        if "marginal_step_bytes" in metrics:
            price = MarginalPrice(int(metrics["marginal_step_bytes"]), metrics["marginal_kl_drop"])
        self._found = replace(
            self._found,
            hypervolume=metrics.get("hypervolume"),
            best_kl_divergence=metrics.get("best_kl_under_budget"),
            marginal_price=price,
        )

    def published(self, document: FrontDocument) -> None:
        """Take note of a front; write."""
        best = document.recommended
        self._found = replace(
            self._found,
            hypervolume=document.hypervolume,
            best_kl_divergence=None if best is None else best.kl_divergence,
            marginal_price=document.marginal_price,
            measured_on=document.measured_on,
            num_points=len(document.front),
            recommended=None if best is None else Recommended(best.point, best.size_bytes, best.kl_divergence),
        )
        self.write()

    def ended(self) -> None:
        """Take note that nothing is left to do; write."""
        self._forecast.enter(PHASES[-1], 1.0)
        self.write()

    def told(self) -> str:
        """Return in words how much is done and left, as far as that can be told."""
        summary = self._summary()
        if summary.share_done is None or summary.seconds_left is None:
            return ""
        return f"{summary.share_done:.0%} done, about {told_seconds(summary.seconds_left)} left"

    def write_if_due(self) -> None:
        """Write unless that was done a moment ago."""
        if time.monotonic() >= self._next:
            self.write()

    def write(self) -> None:
        """Write the summary as it is now."""
        began = time.monotonic()
        self._store.put_summary(self._job.job_id, self._summary())
        ended = time.monotonic()
        self._next = ended + max(_MIN_SECONDS, (ended - began) / _MAX_SHARE)

    def _summary(self) -> Summary:
        left, elapsed = self._forecast.seconds_left(), self.elapsed_seconds
        return replace(
            self._found,
            updated_at=datetime.now(UTC),
            trials=dict(Counter(str(t.state) for t in self._trials())),
            elapsed_seconds=elapsed,
            share_done=elapsed / (elapsed + left) if elapsed + left > 0 else 1.0,
            seconds_left=left,
        )

    def _count_ended(self) -> None:
        self._num_ended = sum(t.state.is_finished and not is_known(t) for t in self._trials())

    def _search_share(self) -> float:
        spec = self._job.spec
        left = None if spec.max_trials is None else max(0, spec.max_trials - self._num_ended)
        return search_share(spec, self._expected_tokens, self._spent_tokens, left)
