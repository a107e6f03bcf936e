"""What can be refused of a wish for an export before anything slow is imported or read."""

import os
from pathlib import Path

from space.budget import parse_budget
from space.errors import NotFoundError, OutputError, SpecError, UsageError
from space.results.document import FrontDocument, FrontPoint
from space.targets.target_table import TARGETS, check_packages

_NEW_FOLDER = "Give a new folder with --out."


def check_wish(document: FrontDocument, out: Path, point: str | None, budget: str | None, target: str | None) -> None:
    """Check what needs neither the model nor any file of the job.

    Raises:
        UsageError: the wishes cannot be had together, or an option cannot be read.
        NotFoundError: no such point.
        OutputError: `out` cannot be used.

    """
    if point is not None and budget is not None:
        raise UsageError(f"--point {point} and --budget {budget}: choose one of them.")
    if budget is not None:
        parse_budget(budget)
    if target is not None:
        known_target(target)
    if point is not None:
        named_point(document, point)
    check_free(out)


def known_target(name: str) -> str:
    """Return the name of a target whose packages are here. Raises SpecError."""
    if name not in TARGETS:
        *others, last = TARGETS
        raise SpecError(f"--format {name!r} is not known; use {', '.join(others)} or {last}.")
    check_packages(name)
    return name


def named_point(document: FrontDocument, name: str) -> FrontPoint:
    """Return a point of a front. Raises NotFoundError, naming those there are."""
    found = next((p for p in document.front if p.point == name), None)
    if found is None:
        names = ", ".join(p.point for p in document.front)
        raise NotFoundError(f"Job {document.job} has no point {name!r}; its front has {names or 'no points'}.")
    return found


def check_free(out: Path) -> None:
    """Raise OutputError where a folder is taken, or cannot be made."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise OutputError(f"{out}: already there and not empty. {_NEW_FOLDER}")
        above = next(path for path in out.absolute().parents if path.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            why = "cannot be written" if above.is_dir() else "is a file"
            raise OutputError(f"{out}: cannot be made, since {above} {why}. {_NEW_FOLDER}")
    except OSError as error:
        raise OutputError(f"{out}: cannot be used ({error.strerror}). {_NEW_FOLDER}") from error
