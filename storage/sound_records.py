"""Records that come back from a database, checked: what was edited by hand is named where it is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from math import isfinite
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_origin

from space.errors import StoreError
from space.level import parse_level
from space.measurement import Measurement
from space.menu import Menu
from space.results.document import FrontDocument
from storage.job_facts import JobFacts, KeptText
from storage.job_summary import Summary
from storage.records import Job

if TYPE_CHECKING:
    from space.spec import JobSpec

_SHOWN = 200  # characters of a reason
_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What stands in a row in place of a value that is none of its column's type."""

    reason: str


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn what cannot be read back into a StoreError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        reason = reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN]}..."
        raise StoreError(
            f"{what} cannot be read ({reason}): another tightfit wrote it, or somebody changed it by hand. Restore a "
            "copy of the database, or submit the job again."
        ) from error


def sound(record: _Record) -> _Record:
    """Return a record whose fields are of the types that it declares, as far as those are plain. Raises ValueError."""
    for name, kind in _plain_kinds(cast("Any", type(record))).items():
        value = getattr(record, name)
        if isinstance(value, Unreadable):
            raise ValueError(f"{name}: {value.reason}")  # noqa: TRY004 (where all others are told)
        if not isinstance(value, kind):
            raise ValueError(f"{name} is {value!r}")  # noqa: TRY004
    return record


def readable(value: Any) -> Any:
    """Return a column's value. Raises ValueError where it holds none."""
    if isinstance(value, Unreadable):
        raise ValueError(value.reason)  # noqa: TRY004 (where all others are told)
    return value


@cache
def _plain_kinds(record: Any) -> Mapping[str, Any]:
    """Return field -> type, of the fields whose values can be asked for their type."""
    found = {}
    for field in fields(record):
        kind = dict if get_origin(field.type) is dict else field.type
        parts = kind.__args__ if isinstance(kind, UnionType) else (kind,)
        if all(isinstance(part, type) for part in parts):
            found[field.name] = kind | int if float in parts else kind
    return found


def sound_spec(value: Any) -> "JobSpec":
    """Return a request of a JSON value. Raises what `reading` tells."""
    from space.spec import JobSpec

    with _inside("spec"):
        spec = JobSpec(**readable(value))
        _check_levels(spec.menu, spec.pins)
    return spec


@lru_cache
def _check_levels(menu: Menu, pins: tuple[tuple[str, str], ...]) -> None:
    menu.levels()
    for _, text in pins:
        parse_level(text)


def sound_summary(value: Any) -> Summary:
    """Return a summary of a JSON value. Raises what `reading` tells."""
    with _inside("summary"):
        found = sound(Summary.from_json(readable(value)))
        for part in (found.marginal_price, found.recommended):
            sound(part) if part is not None else None
        counts = (*found.trials.items(), ("num_points", found.num_points))
        if found.updated_at.tzinfo is None or not all(isinstance(count, int) for _, count in counts):
            raise ValueError("an instant without a zone, or a count that is none")
    return found


def sound_measurement(value: Any) -> Measurement:
    """Return a measurement of a JSON value. Raises what `reading` tells."""
    found = Measurement.from_json(readable(value))
    numbers = (found.kl_divergence, found.perplexity, found.token_forwards, found.seconds, found.num_tokens)
    if not all(map(isfinite, (*found.sequence_kl, *numbers))):
        raise ValueError("a measurement with a number that is not finite")
    return sound(found)


def sound_document(job_id: str, value: Any) -> FrontDocument:
    """Return a job's front of a JSON value. Raises what `reading` tells."""
    from space.parsing.checked import check_kind

    with _inside("document"):
        check_kind(FrontDocument, readable(value))
        found = FrontDocument.from_json(value)
        if found.job != job_id:
            raise ValueError(f"job is {found.job!r}")
    return found


def sound_facts(value: Any) -> JobFacts:
    """Return what a run found out, of a JSON value. Raises what `reading` tells."""
    from space.parsing.checked import check_kind

    with _inside("facts"):
        check_kind(dict[str, Any], readable(value))
        facts = JobFacts.from_json(value)
    for losses in facts.model.losses.values() if facts.model else ():
        for text in losses:
            parse_level(text)
    return facts


@dataclass(frozen=True, slots=True)
class Ground:
    """What a searched job stands on; all of it is there."""

    tokens: KeptText
    cache_folder: str
    model_digest: str


def ground_of(job: Job) -> Ground:
    """Return what a job's run kept for exports. Raises StoreError where something is missing."""
    with reading(f"Job {job.job_id}"):
        return Ground(**{name: _kept(job, name) for name in ("tokens", "cache_folder", "model_digest")})


def dense_perplexity_of(job: Job) -> float:
    """Return what a job's run measured of the dense model. Raises StoreError where it is missing."""
    with reading(f"Job {job.job_id}"):
        return float(_kept(job, "dense_perplexity"))


def _kept(job: Job, name: str) -> Any:
    if (value := getattr(job.facts, name)) is None:
        raise ValueError(f"facts: {name} is missing")
    return value


@contextmanager
def _inside(name: str) -> Iterator[None]:
    """Say where something is wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
