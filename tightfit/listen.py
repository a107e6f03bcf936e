"""Who hears about a running job: the terminal and MLflow."""

from typing import TYPE_CHECKING

from storage.records import Job
from storage.tracker import Tracker

if TYPE_CHECKING:
    from search.controller import Listener


class TrackingListener:
    """Passes everything on to another listener, and numbers to a tracker."""

    def __init__(self, inner: "Listener", tracker: Tracker) -> None:
        """Remember both."""
        self._inner, self._tracker = inner, tracker

    def phase(self, job: Job, text: str) -> None:
        """Pass a step on."""
        self._inner.phase(job, text)

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Pass the state of the search on to both."""
        self._tracker.progress(job, trials_done, metrics)
        self._inner.progress(job, trials_done, metrics)
