"""Text to calibrate on, to search on and to judge by: three disjoint splits.

The built-in source is three fixed sets of standard-library modules, read from the running interpreter.
The bundled model was trained on Python source that excludes every module named here, so calibration, search and
held-out measurements never touch its training text. The text differs a little between Python versions: its digest is
recorded with every job.
"""

import hashlib
import json
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from space.errors import CalibrationError
from workers.bounded_files import read_bounded, user_path

Split = Literal["calibration", "search", "held_out"]
STDLIB = "python-stdlib"
_MAX_DATASET_ROWS = 20_000
_MAX_TEXT_BYTES = 512 * 2**20

STDLIB_MODULES: dict[Split, tuple[str, ...]] = {
    "calibration": (
        "argparse",
        "difflib",
        "ftplib",
        "heapq",
        "mailbox",
        "shutil",
        "smtplib",
        "statistics",
        "tarfile",
        "textwrap",
    ),
    "search": ("bdb", "configparser", "csv", "fractions", "gzip", "imaplib", "inspect", "optparse", "random", "uuid"),
    "held_out": (
        "ast",
        "dataclasses",
        "http/client",
        "logging/__init__",
        "pdb",
        "socket",
        "subprocess",
        "typing",
        "urllib/request",
        "xmlrpc/client",
    ),
}


def stdlib_text(split: Split) -> str:
    """Return the source text of a split's modules, in name order, read from this interpreter's standard library."""
    root = Path(sysconfig.get_paths()["stdlib"])
    return "\n".join((root / f"{name}.py").read_text(encoding="utf-8") for name in STDLIB_MODULES[split])


def text_digest(text: str) -> str:
    """Return the sha256 of a text, the name under which it is recorded."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_text(source: str) -> dict[Split, str] | str:
    """Return the text of a calibration source: three texts where the source has splits, else one.

    Args:
        source: `python-stdlib`, a text or JSONL file (one object with a `text` field a line), or a dataset name.

    Raises:
        CalibrationError: missing, unreadable, empty, or the optional `datasets` package is not installed.

    """
    if source == STDLIB:
        return {split: stdlib_text(split) for split in STDLIB_MODULES}
    path = user_path(source)
    if path.exists():
        text = _read_file(path)
    elif path.suffix or source.startswith((".", "/", "~")):
        raise CalibrationError(f"{source}: no such file. Give a text or JSONL file, `{STDLIB}` or a dataset name.")
    else:
        text = _read_dataset(source)
    if not text.strip():
        raise CalibrationError(f"{source}: holds no text.")
    return text


def _read_file(path: Path) -> str:
    try:
        text = read_bounded(path, _MAX_TEXT_BYTES).decode()
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: cannot be read as UTF-8 text ({error}).") from error
    if path.suffix != ".jsonl":
        return text
    try:
        lines = text.split("\n")  # and at nothing else that is a line's end to Python: a string may hold it as it is
        return "\n".join(str(json.loads(line)["text"]) for line in lines if line.strip())
    except (ValueError, KeyError, TypeError) as error:
        raise CalibrationError(f"{path}: each line must be a JSON object with a `text` field ({error!r}).") from error


def _read_dataset(name: str) -> str:
    try:
        from datasets import load_dataset  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise _no_datasets(name) from error
    try:
        rows = load_dataset(name, split="train", streaming=True)
        texts = [str(row["text"]) for row, _ in zip(rows, range(_MAX_DATASET_ROWS), strict=False)]
    except Exception as error:  # the library raises many kinds, all of them about the user's name
        reason = (str(error) or repr(error)).splitlines()[0]
        raise CalibrationError(f"{name}: the dataset cannot be read: {reason}") from error
    return "\n".join(texts)


def check_source(source: str | None) -> None:
    """Refuse a calibration file that is missing, unreadable or empty, before a job is made of it.

    A dataset is not read now, but what reads it must be there.
    """
    if source is None:
        return
    path = user_path(source)
    if source == STDLIB or path.suffix or path.exists():
        read_text(source)
    elif find_spec("datasets") is None:
        raise _no_datasets(source)


def _no_datasets(name: str) -> CalibrationError:
    return CalibrationError(f"{name}: not a file, and names of datasets need a package: pip install datasets.")
