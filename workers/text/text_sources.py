"""Text to calibrate on, to search on and to judge by: three disjoint splits.

The built-in source is three fixed sets of standard-library modules, read from the running interpreter.
The bundled model was trained on Python source that excludes every module named here, so calibration, search and
held-out measurements never touch its training text. The text differs a little between Python versions: its digest is
recorded with every job.
"""

import codecs
import hashlib
import sysconfig
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from space.errors import CalibrationError
from workers.bounded_files import read_bounded, user_path
from workers.text.text_records import is_table, no_datasets, text_of_dataset, text_of_file, text_of_table
from workers.text.tokenizer import ChatWriter

Split = Literal["calibration", "search", "held_out"]
STDLIB = "python-stdlib"
SELF = "self"
"""chat turns that the model makes itself, through its own chat template"""
_MAX_TEXT_BYTES = 512 * 2**20
_BYTE_ORDER_MARKS = (
    *((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32")),
    *((codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16")),  # behind UTF-32, whose mark begins alike
)

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


def read_text(source: str, folder: Path | None = None) -> dict[Split, str] | str:
    """Return the text of a calibration source: three texts where the source has splits, else one.

    Args:
        source: `python-stdlib`, a file of text, JSON, JSONL, CSV or Parquet, or a dataset name.
        folder: the model, whose chat template writes chat turns.

    Raises:
        CalibrationError: missing, unreadable, empty, a record of it has no text, or the optional `datasets` package is
            not installed.

    """
    if source == STDLIB:
        return {split: stdlib_text(split) for split in STDLIB_MODULES}
    path, render = user_path(source), ChatWriter(folder)
    if path.exists():
        text = text_of_table(path, render) if is_table(path) else text_of_file(path, read_content(path), render)
    elif is_path(source):
        raise CalibrationError(f"{source}: no such file. Give a text or JSONL file, `{STDLIB}` or a dataset name.")
    else:
        text = text_of_dataset(source, render)
    if not text.strip():
        raise CalibrationError(f"{source}: holds no text.")
    return text


def is_sampled(source: str | None) -> bool:
    """Tell whether text is made by the model itself."""
    return source in (None, SELF)


def is_path(source: str) -> bool:
    """Tell whether a calibration source is a file, there or not, and no dataset's name."""
    path = user_path(source)
    return bool(path.suffix) or source.startswith((".", "/", "~")) or path.exists()


def read_content(path: Path) -> str:
    """Return a file's characters: UTF-8, or what its byte order mark says.

    Raises:
        CalibrationError: it cannot be read.

    """
    try:
        data = read_bounded(path, _MAX_TEXT_BYTES)
        return data.decode(next((codec for mark, codec in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8"))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{path}: cannot be read as UTF-8 text ({error}).") from error


def check_source(source: str | None, folder: Path | None = None) -> None:
    """Refuse a calibration file that is missing, unreadable or without text, before a job is made of it.

    A dataset is not read now, but what reads it must be there.
    """
    if source is None or is_sampled(source):
        return
    if source == STDLIB or is_path(source):
        read_text(source, folder)
    elif find_spec("datasets") is None:
        raise no_datasets(source)
