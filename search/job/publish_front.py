"""Publishing a job's front while it is searched for: always valid, never at the cost of the search."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from search.job.context import Context
from search.job.front_document import build_document
from storage.job_facts import JobFacts, KeptLosses
from storage.records import JobState, Trial

_MAX_SHARE = 0.05  # of a search's time that publishing may take


class Publisher:
    """Records the front of one job, and the time that the job took until then."""

    def __init__(self, context: Context) -> None:
        """Go on from what an earlier run of the job recorded."""
        self._context = context
        self._next = 0.0
        self.dense_perplexity = context.job.facts.dense_perplexity or 0.0
        self.advice: str | None = context.job.facts.advice
        self.experts = context.job.facts.experts
        self.own_marks: Mapping[str, str] = {}

    def advise(self, advice: str | None) -> None:
        """Say with the front what would make it better."""
        if advice is not None:
            self.advice = advice
            self._context.store.update_job(self._context.job_id, facts=JobFacts(advice=advice))

    def publish(self, state: JobState, trials: Sequence[Trial], model: KeptLosses | None = None) -> None:
        """Record the front as far as it is known.

        Args:
            state: that the job has or is about to enter.
            trials: all of its trials.
            model: what the search learnt about each module.

        """
        if not any(t.measurement for t in trials):
            return
        began, seconds = time.monotonic(), self._context.reporter.elapsed_seconds
        job = replace(self._context.job, state=state)
        document = build_document(
            job,
            self._context.prepared,
            trials,
            self.dense_perplexity,
            seconds,
            self.advice,
            self._context.spent,
            self.experts,
            self.own_marks,
        )
        facts = JobFacts(wall_seconds=seconds, model=model)
        self._context.store.update_job(job.job_id, document=document, facts=facts)
        self._context.reporter.published(document)
        ended = time.monotonic()
        self._next = ended + (ended - began) / _MAX_SHARE

    def publish_if_due(self, trials: Sequence[Trial], model: Callable[[], KeptLosses | None]) -> None:
        """Record the front of a running job unless that was done a moment ago, measured by what it costs."""
        if time.monotonic() >= self._next:
            self.publish(JobState.RUNNING, trials, model())
