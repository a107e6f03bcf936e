"""Which jobs a list is to show, as options of a command and as a question to a service."""

from collections.abc import Sequence
from typing import Any

from space.errors import UsageError
from storage.job_summary import Wanted
from storage.records import JobState


def read_wanted(states: Sequence[str] | None, model: str | None, user: str | None, label: str | None) -> Wanted:
    """Return which jobs a command's options ask for. Raises UsageError: no such state."""
    for text in states or ():
        if text.upper() not in JobState.__members__:
            raise UsageError(f"--state {text}: use one of {', '.join(JobState)}.")
    return Wanted(user, frozenset(JobState(text.upper()) for text in states) if states else None, model, label)


def query_of(wanted: Wanted) -> dict[str, Any]:
    """Return the same as what a service is asked for."""
    told = {"model": wanted.model, "user": wanted.user, "label": wanted.label}
    states = None if wanted.states is None else sorted(str(state) for state in wanted.states)
    return {name: value for name, value in {**told, "state": states}.items() if value}
