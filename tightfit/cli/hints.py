"""Commands for people to type next."""

import shlex
from pathlib import Path

_WORTH_TELLING = 0.01  # of a budget: what a job for it would fill


def command(text: str, home: Path | None) -> str:
    """Return a tightfit command as it must be typed for a home; None is the environment's."""
    return f"tightfit {text}" + (f" --home {shlex.quote(str(home))}" if home is not None else "")


def unfilled(job_id: str, model: str, size_bytes: int, budget: str, budget_bytes: int, home: Path | None) -> str | None:
    """Return what would fill a budget that a front's best point leaves unused, and by how much; None where it is full.

    Args:
        job_id: of the job whose front has the point.
        model: that it searched.
        size_bytes: of the point.
        budget: as written.
        budget_bytes: what it is.
        home: for the command; None is the environment's.

    """
    left = budget_bytes - size_bytes
    if left < _WORTH_TELLING * budget_bytes:
        return None
    again = command(f"submit {shlex.quote(model)} --budget {shlex.quote(budget)} --like {job_id}", home)
    return (
        f"{left:,} of {budget_bytes:,} bytes are left unused: no point of this front is nearer. A job for this budget "
        f"fills them, and starts from all that this one measured: {again}"
    )
