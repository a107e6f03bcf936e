"""Files that somebody named, opened and read within bounds: regular ones only, and never more than so many bytes."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from space.budget import format_bytes
from space.errors import UsageError
from space.parsing.strict_json import parse_json

MAX_JSON_BYTES = 64 * 2**20
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_SHOWN = 100  # characters of a path in a sentence


@contextmanager
def open_regular(path: Path) -> Iterator[BufferedReader]:
    """Yield a file to read; a pipe is not waited for.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is a folder, pipe, socket or device.

    """
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(number, "rb") if stat.S_ISREG(os.fstat(number).st_mode) else _refused(number) as file:
        yield file


def _refused(number: int) -> NoReturn:
    os.close(number)
    raise ValueError("it is no regular file")


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Return a file's bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or larger.

    """
    with open_regular(path) as file:
        found = file.read(max_bytes + 1)
    if len(found) > max_bytes:
        raise ValueError(f"it is larger than {format_bytes(max_bytes)}")
    return found


def read_json(path: Path) -> Any:
    """Return the value of a JSON file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, too large, or not JSON (see `parse_json`).

    """
    return parse_json(read_bounded(path, MAX_JSON_BYTES))


def user_path(text: str | Path) -> Path:
    """Return the path that somebody wrote, `~` resolved; there may be nothing yet.

    Raises:
        UsageError: no file can have that name, or nobody may look whether there is one.

    """
    try:
        path = Path(text).expanduser()
        str(path).encode()  # databases and records of ours hold it as UTF-8
        path.lstat()
    except OSError as error:
        if error.errno not in _ABSENT:
            raise UsageError(f"{_shown(text)}: cannot be used as a path ({error.strerror}).") from error
    except (RuntimeError, ValueError) as error:  # no such user, a character that no name may hold
        raise UsageError(f"{_shown(text)}: cannot be used as a path ({error}).") from error
    return path


def _shown(text: str | Path) -> str:
    whole = ascii(str(text))[1:-1]
    return whole if len(whole) <= _SHOWN else f"{whole[:60]}...{whole[-30:]}"
