"""Files that are whole or absent: written beside, then renamed."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from space.errors import OutputError

if TYPE_CHECKING:
    from torch import Tensor

_FREE = "free some disk space, then resume the job"
_ALLOW = "make its folder writable, then resume the job"
_ADVICE = {errno.ENOSPC: _FREE, errno.EDQUOT: _FREE, errno.EROFS: _ALLOW, errno.EACCES: _ALLOW, errno.EPERM: _ALLOW}


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write beside `path`, which takes its place at the end, or is gone where that fails.

    Writers of equal content may race without harm.

    Raises:
        OutputError: the disk is full or the folder cannot be written.

    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except Exception as error:
        number = _system_error(error)
        if number not in _ADVICE:
            raise
        raise OutputError(f"{path} cannot be written ({os.strerror(number)}): {_ADVICE[number]}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: Path, what_next: str) -> Iterator[None]:
    """Say in one sentence, and in another `what_next`, why a file or folder that somebody named cannot be written.

    Raises:
        OutputError: the system refused, here or at another file, which is named then.

    """
    try:
        yield
    except OSError as error:
        told, other = error.strerror or str(error), str(error.filename or "")
        if other and not other.startswith((str(path), str(path.parent / f".{path.name}."))):
            told = f"{told}: {other}"
        raise OutputError(f"{path}: cannot be written ({told}). {what_next}") from error


def _system_error(error: Exception) -> int:
    """Return the system's number of an error, which safetensors tells in its text only; 0 where there is none."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return error.errno or 0 if isinstance(error, OSError) else int(found.group(1)) if found else 0


def write_safetensors(path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
    """Write tensors atomically."""
    from safetensors.torch import save_file

    with replacing(path) as temporary:
        save_file(dict(tensors), temporary, metadata)


def is_whole(path: Path) -> bool:
    """Tell whether a safetensors file is there with all of its bytes: a power cut may leave an empty one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt"):
            return True
    except (OSError, SafetensorError):
        return False


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
