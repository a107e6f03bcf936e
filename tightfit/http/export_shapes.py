"""What the service answers about exports."""

from typing import Any, Literal

from pydantic import ConfigDict, Field

from tightfit.http.shapes import JobStatus, Shape


class ExportRequest(Shape):
    """Which point of a front is exported, and how."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    point: str | None = Field(None, max_length=50)
    """By name; else the best within `budget`, or the recommended one."""
    budget: str | None = Field(None, max_length=50, examples=["3.5GiB"])
    target: str | None = Field(None, max_length=50)
    """What it is written as; else the job's target."""
    refit: bool | None = None
    """Fit it once more, and keep that where it helps; null does so where it can help and memory holds both models."""


class ExportStatus(Shape):
    """How far an export is: what `tightfit exports --json` prints of it."""

    task: str
    """The export's id."""
    kind: str
    job: str
    point: str
    trial: int
    state: Literal["QUEUED", "RUNNING", "DONE", "FAILED", "CANCELLED"]
    progress: str
    """What it is doing, for people."""
    share_done: float | None
    """0 to 1, as far as anything tells."""
    out: str
    """The folder, on the machine that writes it."""
    user: str | None
    error: str | None
    """Why it failed."""
    result: dict[str, Any] | None
    """What was verified on its files, once it is done: bytes, KL divergence, digests."""
    created_at: str
    started_at: str | None
    finished_at: str | None
    is_stopped: bool
    """The process that ran it has ended, and nobody took it over yet."""


class ExportList(Shape):
    """Exports, newest first."""

    exports: list[ExportStatus]


class JobDetails(JobStatus):
    """How far a job and its exports are: what `tightfit status JOB --json` prints."""

    exports: list[ExportStatus]
    """Newest first."""


class ExportFile(Shape):
    """One file of an export."""

    name: str
    size_bytes: int
    sha256: str | None
    """Of weight files, as they were verified."""


class ExportFiles(Shape):
    """The files of an export, by name."""

    files: list[ExportFile]
