"""The contract of a tracker: what shows a job while it runs and after; MLflow's is in `mlflow_tracker`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from space.errors import StoreError
from space.question import KL, Metric
from space.results.document import FrontDocument
from storage.records import Job, Trial


@dataclass(frozen=True, slots=True)
class Step:
    """Metrics of one step of a job, and when they were known."""

    job: Job
    number: int
    metrics: Mapping[str, float]
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Front:
    """All that is shown of a job."""

    job: Job
    trials: Sequence[Trial]
    document: FrontDocument
    report_html: str


@dataclass(frozen=True, slots=True)
class End:
    """The end of a job."""

    job: Job


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A verified export of a job's point.

    Attributes:
        task_id: of the export.
        job: that searched.
        point: its name on the front.
        target: what it is written as.
        path: where its files are.
        digests: file -> sha256 of the weights.
        commands: the lines that load it.
        size_bytes: of its tensors.
        kl_divergence: measured on the files; `metric` says what that stands for.
        is_recommended: it is the point that the front recommends.
        finished_ms: when it was verified, UTC.

    """

    task_id: str
    job: Job
    point: str
    target: str
    path: str
    digests: Mapping[str, str]
    commands: Sequence[str]
    size_bytes: int
    kl_divergence: float
    is_recommended: bool
    finished_ms: int
    metric: Metric = KL


class Tracker(Protocol):
    """Shows a job while it runs and after. No verb blocks or raises."""

    def progress(self, job: Job, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of one step of a search."""

    def publish(self, job: Job, trials: Sequence[Trial], document: FrontDocument, report_html: str) -> None:
        """Show a job's front, in place of what was shown of it."""

    def end(self, job: Job) -> None:
        """Show how a job ended; its front, where it has one, is published after."""

    def register(self, export: Checkpoint) -> None:
        """Show a verified export as a version of its model."""

    def link(self, job_id: str) -> str | None:
        """Return the address where a job can be looked at, where it is shown."""

    def close(self, timeout_seconds: float) -> bool:
        """Deliver what waits, for at most this long; return whether everything was delivered."""


def has_mlflow() -> bool:
    """Tell whether MLflow is installed; jobs run without it, and none of them is shown."""
    return find_spec("mlflow") is not None


def check_mlflow() -> None:
    """Raise StoreError where MLflow is not installed."""
    if not has_mlflow():
        raise StoreError(
            "MLflow is not installed, so that it shows no jobs; `tightfit front` does. Install it to see them there: "
            "pip install mlflow"
        )


class NullTracker:
    """Shows nothing: what jobs have where MLflow is not installed."""

    def progress(self, job: Job, step: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def publish(self, job: Job, trials: Sequence[Trial], document: FrontDocument, report_html: str) -> None:
        """Do nothing."""

    def end(self, job: Job) -> None:
        """Do nothing."""

    def register(self, export: Checkpoint) -> None:
        """Do nothing."""

    def link(self, job_id: str) -> None:
        """Return nothing."""

    def close(self, timeout_seconds: float) -> bool:  # noqa: ARG002 (the contract's argument)
        """Do nothing."""
        return True
