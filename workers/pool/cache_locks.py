"""Who uses a cache folder: running jobs together, or the one that cleans it alone."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from space.errors import OutputError

_LOCK = ".in-use"


def use(folder: Path) -> IO[str]:
    """Return an open file that marks a folder as in use until it is closed, or its process ends, however it does.

    Raises:
        OutputError: the folder cannot be written.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / _LOCK).open("w", encoding="ascii")
    except OSError as error:
        told = f"{folder} cannot be written ({error.strerror}): make its folder writable, then resume the job."
        raise OutputError(told) from error
    fcntl.flock(file, fcntl.LOCK_SH)  # waits where it is being cleaned, which takes a moment
    return file


@contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Yield whether nobody uses a folder, and keep others out until the end."""
    with (folder / _LOCK).open("w", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
