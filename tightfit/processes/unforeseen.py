"""Errors that nobody foresaw: one sentence for people, and a file with the traceback for whoever mends them."""

import os
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

_SHOWN = 200  # characters of an error's own words


def told_unforeseen(error: BaseException, home: Path | None) -> str:
    """Return a sentence about an error; its traceback is left in the home's logs.

    Args:
        error: what was raised.
        home: where to leave it, if it is there and can be written; else the system's folder for temporary files is.

    """
    words = " ".join(f"{type(error).__name__}: {error}".split()).encode(errors="backslashreplace").decode()
    words = words if len(words) <= _SHOWN else f"{words[:_SHOWN]}..."
    text = "".join(traceback.format_exception(error)).encode(errors="backslashreplace")
    for folder in [*([home / "logs"] if home is not None and home.is_dir() else []), Path(tempfile.gettempdir())]:
        with suppress(OSError):
            path = _written(folder, text)
            return f"it met an error that it does not know ({words}); please report it with {path}, which says where."
    return f"it met an error that it does not know ({words}), and no folder could be written that would say where."


def _written(folder: Path, text: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    number = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(text)
    return path
