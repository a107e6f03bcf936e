"""Folders and files that only their user can read: records name models, texts and places that are nobody else's.

What exists keeps its rights: a home may be shared on purpose (a cluster), and `tightfit doctor` says who can read it.
"""

import os
from contextlib import suppress
from pathlib import Path

_OTHERS = 0o077


def make_private(folder: Path) -> None:
    """Make a folder, and what is missing above it, for this user alone. Raises OSError."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(exist_ok=True)  # says so where it is a file


def make_private_file(path: Path) -> None:
    """Make an empty file for this user alone unless it exists; where that fails, whoever opens it says why."""
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


def mode_for_others(path: Path) -> str | None:
    """Return the rights of a file or folder, such as `755`, where others than its user have any."""
    mode = path.stat().st_mode & 0o777
    return f"{mode:o}" if mode & _OTHERS else None
