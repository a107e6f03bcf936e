"""What the service answers about exports and recoveries: tasks on a point of a front."""

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


class RecoveryRequest(Shape):
    """Which point of a front is made better in the same bytes, and how."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    point: str | None = Field(None, max_length=50)
    """By name; null: the recommended one."""
    method: Literal["refit", "scales", "low-rank", "restore", "quantization-aware"] | None = None
    """Null: the cheapest that helps, then the next while it pays."""
    minutes: float | None = Field(None, gt=0, le=100_000)
    """Of computing on one core for each method; null: its whole course."""
    text: str | None = Field(None, max_length=4096)
    """What it learns from, as a calibration source that the service reads; null: more of the job's."""
    seed: int = Field(0, ge=0, lt=2**31)
    """Of what it draws."""


class ExportStatus(Shape):
    """How far an export or a recovery is: what `tightfit exports --json` prints of it."""

    task: str
    """The task's id."""
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


class RecoveryList(Shape):
    """Recoveries, newest first."""

    recoveries: list[ExportStatus]


class JobDetails(JobStatus):
    """How far a job is: what `tightfit status JOB --json` prints."""

    exports: list[ExportStatus]
    """Exports and recoveries, by their `kind`, newest first."""


class ExportFile(Shape):
    """One file of an export."""

    name: str
    size_bytes: int
    sha256: str | None
    """Of weight files, as they were verified."""


class ExportFiles(Shape):
    """The files of an export, by name."""

    files: list[ExportFile]
