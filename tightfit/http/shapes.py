"""What the service answers, as its OpenAPI document describes it; most is what `--json` of the same command prints."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from space.requests.presets import PresetName, resolved
from space.spec import JobSpec

JobStateName = Literal["QUEUED", "RUNNING", "PAUSED", "DONE", "FAILED", "CANCELLED"]
TrialStateName = Literal["WAITING", "RUNNING", "COMPLETE", "FAILED", "STOPPED"]


class Shape(BaseModel):
    """A JSON object of an answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Price(Shape):
    """What a little more memory would buy."""

    step_bytes: int
    """So much more memory ..."""
    kl_divergence_drop: float
    """... would lower the KL divergence by so much."""


class RecommendedPoint(Shape):
    """The point that a front recommends for the budget."""

    point: str
    size_bytes: int
    kl_divergence: float


class JobStatus(Shape):
    """How far a job is: what `tightfit status --json` prints of each."""

    job: str
    """The job's id."""
    state: JobStateName
    user: str | None
    """Whose job it is, where that is known."""
    label: str | None = None
    """What people call it."""
    note: str | None = None
    """What people note of it."""
    model: str
    budget: str
    """As it was written."""
    phase: str
    """What the job is doing, for people."""
    error: str | None
    """Why it failed."""
    is_stopped: bool
    """The process that ran it has ended, and nobody took it over yet."""
    created_at: str
    """UTC, ISO 8601, as all times."""
    started_at: str | None
    finished_at: str | None
    trials: dict[TrialStateName, int]
    """State -> number of trials."""
    elapsed_seconds: float
    share_done: float | None
    """0 to 1; null where nothing tells."""
    seconds_left: float | None
    best_kl_divergence: float | None
    """The smallest one under the budget."""
    hypervolume: float | None
    """Of the front: how much it dominates."""
    marginal_price: Price | None
    measured_on: Literal["search", "held_out"] | None
    """The text that KL and front are of; null before there is a front."""
    num_points: int
    """Points of the front so far."""
    recommended: RecommendedPoint | None
    updated_at: str | None
    """When these figures were written."""
    log: str | None
    """Where its log is, on the service's machine; `GET /v1/jobs/{job}/logs` has its text."""


class JobList(Shape):
    """A page of jobs, newest first."""

    jobs: list[JobStatus]
    next: str | None
    """Give it as `after` for the next page; null on the last one."""
    total: int
    """Of all that fit the filter."""


class TrialInfo(Shape):
    """One measured plan."""

    trial: int
    """Its number, in the order of asking."""
    origin: str
    """Who proposed it: `uniform`, `knapsack`, `refine` ..."""
    state: TrialStateName
    size_bytes: int
    kl_divergence: float | None
    """On the search text; null until it is measured."""
    perplexity: float | None
    held_out_kl_divergence: float | None
    """On text that the search never saw; null for all but the contenders."""
    reason: str | None
    """Why it failed or was stopped."""
    plan: dict[str, str] | None = None
    """Module -> level, where it was asked for."""


class TrialPage(Shape):
    """A page of trials by number."""

    trials: list[TrialInfo]
    next: int | None
    """Give it as `after` for the next page; null on the last one."""
    total: int


class MoveInfo(Shape):
    """Another level that a module could have."""

    level: str
    bytes_change: int
    kl_change: float


class ReasonInfo(Shape):
    """Why one module has its level."""

    module: str
    level: str
    kl_share: float
    """Its share of the plan's predicted loss."""
    kl_divergence: float
    size_bytes: int
    saved_bytes: int
    up: MoveInfo | None
    down: MoveInfo | None
    why: str


class PointExplanation(Shape):
    """Why each module of a point has its level, the most costly ones first."""

    point: str
    kl_divergence: float
    predicted_kl_divergence: float
    going_rate: float
    """KL divergence that one byte more or less is worth at this size."""
    modules: list[ReasonInfo]


class ModuleSizes(Shape):
    """One module of a model, and how small and large it can be."""

    name: str
    kind: str
    rows: int
    columns: int
    levels: int
    """How many levels it may take."""
    smallest_bytes: int
    largest_bytes: int


class UniformInfo(Shape):
    """The size of a plan with one level for every module."""

    level: str
    size_bytes: int


class CarriedInfo(Shape):
    """Stored tensors that are copied unchanged because no part of what is searched uses them."""

    name: str
    size_bytes: int
    reason: str


class Inspection(Shape):
    """What a job would search and cost: what `tightfit submit MODEL --dry-run --json` prints."""

    model: str
    budget_bytes: int
    dense_bytes: int
    key_value_bytes: int
    """Key/value cache inside the budget."""
    others_bytes: int
    """What is left alone: norms, biases."""
    modules: list[ModuleSizes]
    uniform: list[UniformInfo]
    smallest_bytes: int
    largest_bytes: int
    num_plans: str
    """As digits: JSON numbers could not hold it."""
    seconds: float
    """Estimated time with the asked workers."""
    disk_bytes: int
    """Of the cache, at most."""
    carried: list[CarriedInfo] = []
    """What is copied unchanged."""
    request: JobSpec
    """The whole request, with what a preset and the defaults say."""


class LogPart(Shape):
    """A part of a job's log."""

    text: str
    next: int
    """Give it as `after` for what is added later, in bytes."""


class Health(Shape):
    """Whether the service is there."""

    status: Literal["ok"] = "ok"
    version: str


class PresetInfo(Shape):
    """What a preset stands for."""

    name: PresetName
    summary: str
    values: dict[str, Any]
    """Field of a request -> its value; the others keep their defaults."""


class About(Shape):
    """What service this is."""

    version: str
    targets: list[str]
    """What results can be written as."""
    presets: list[PresetInfo]
    """How much work a job may be, in one word."""
    upload_files: list[str] = []
    """Patterns of the files that an upload may have."""
    user: str | None
    """Who asks."""
    mlflow: str | None
    """Where MLflow shows the jobs, where one runs."""


class JobRequest(JobSpec):
    """A request: the fields of `JobSpec`, and a preset for those that are not given."""

    preset: PresetName | None = None
    """How much work, in one word (see `/v1/about`); null is `balanced`, the defaults."""

    def resolved(self) -> JobSpec:
        """Return the whole request. Raises SpecError, BudgetError."""
        given = {name: getattr(self, name) for name in self.model_fields_set - {"preset"}}
        return resolved(given, self.preset)


class Description(Shape):
    """What people call a job and note of it; what is not given stays, null takes it away."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    label: str | None = Field(None, max_length=100)
    note: str | None = Field(None, max_length=10_000)


class Overrides(Shape):
    """Options that differ from an earlier job's request; every name is one of `JobSpec`."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    budget: str | None = Field(None, examples=["3.5GiB"])
    """Another memory budget: a warm start, answered in seconds where the earlier job searched near it."""
    max_trials: int | None = Field(None, ge=1)
    """More trials than before."""

    def values(self) -> dict[str, Any]:
        """Return what was given."""
        return self.model_dump(exclude_unset=True)
