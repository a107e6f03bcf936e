"""How far a job is, in few numbers: what lists of jobs show, without a look at any trial or front."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from space.errors import NotFoundError
from space.results.price import MarginalPrice
from storage.records import JobState

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class Recommended:
    """The point that a front recommends for the budget."""

    point: str
    size_bytes: int
    kl_divergence: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Written by a job's controller as it works, so that nobody has to count again.

    Attributes:
        updated_at: UTC.
        trials: state -> how many.
        elapsed_seconds: of all runs of the job together.
        share_done: of the time that the job takes, 0 to 1; None where nothing tells.
        seconds_left: until it is done, as far as its plan of phases and what it measured tell; None where nothing does.
        hypervolume: of the front.
        best_kl_divergence: the smallest one under the budget.
        marginal_price: what more memory would buy.
        measured_on: the text that front and KL are of, "search" or "held_out"; None before there is a front.
        num_points: of the front.
        recommended: of the front's points; None where none fits.

    """

    updated_at: datetime
    trials: Mapping[str, int] = field(default_factory=dict)
    elapsed_seconds: float = 0.0
    share_done: float | None = None
    seconds_left: float | None = None
    hypervolume: float | None = None
    best_kl_divergence: float | None = None
    marginal_price: MarginalPrice | None = None
    measured_on: str | None = None
    num_points: int = 0
    recommended: Recommended | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {**asdict(self), "updated_at": self.updated_at.astimezone(UTC).isoformat()}

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Summary":
        """Read the JSON object; what an older program did not know has its default."""
        price, best = value.get("marginal_price"), value.get("recommended")
        return Summary(
            **{
                **value,
                "updated_at": datetime.fromisoformat(value["updated_at"]),
                "marginal_price": None if price is None else MarginalPrice(**price),
                "recommended": None if best is None else Recommended(**best),
            }
        )


@dataclass(frozen=True, slots=True)
class Overview:
    """A job as lists show it: the small part of its record, and its summary where one was written.

    Attributes:
        user: whose job it is, where that is known.
        holder: who runs it, or did last.
        label: what people call it.
        note: what people note of it.

    """

    job_id: str
    state: JobState
    model: str
    budget: str
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    phase: str = ""
    error: str | None = None
    user: str | None = None
    holder: str | None = None
    label: str | None = None
    note: str | None = None
    summary: Summary | None = None

    @property
    def has_front(self) -> bool:
        """Tell whether a front was measured."""
        return self.summary is not None and self.summary.num_points > 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which jobs a list is about; None: of any kind.

    Attributes:
        user: whose.
        states: in one of them.
        model: a part of the model's name.
        label: a part of the label.

    """

    user: str | None = None
    states: frozenset[JobState] | None = None
    model: str | None = None
    label: str | None = None

    def has(self, found: Overview) -> bool:
        """Tell whether a job is one of them."""
        return (
            (self.user is None or self.user == found.user)
            and (self.states is None or found.state in self.states)
            and (self.model is None or self.model in found.model)
            and (self.label is None or self.label in (found.label or ""))
        )


def page_of(jobs: Sequence[Overview], wanted: Wanted, after: str | None, limit: int) -> tuple[list[Overview], int]:
    """Return the jobs of a list that are wanted, at most so many, behind one of them; and how many there are.

    Raises:
        NotFoundError: `after` is none of them.

    """
    found = [job for job in jobs if wanted.has(job)]
    begin = next((index for index, job in enumerate(found) if job.job_id == after), None)
    if after is not None and begin is None:
        raise not_in_list(after)
    start = 0 if begin is None else begin + 1
    return found[start : start + limit], len(found)


def not_in_list(job_id: str) -> NotFoundError:
    """Return the error for a page that is to begin behind a job which its list does not have."""
    return NotFoundError(f"after={job_id!a}: no such job is in this list. Begin without `after`.")


def told_seconds(seconds: float) -> str:
    """Return a time for people, in its two largest units at most.

    >>> [told_seconds(s) for s in (0.2, 59.6, 754, 7384, 200_000)]
    ['0 s', '1 min', '13 min', '2 h 3 min', '2 d 8 h']
    """
    seconds = round(seconds)
    if seconds < _MINUTE:
        return f"{seconds} s"
    if round(seconds / _MINUTE) < _HOUR // _MINUTE:
        return f"{round(seconds / _MINUTE)} min"
    if seconds < _DAY:
        hours, minutes = divmod(round(seconds / _MINUTE), 60)
        return f"{hours} h {minutes} min"
    days, hours = divmod(round(seconds / _HOUR), 24)
    return f"{days} d {hours} h"
