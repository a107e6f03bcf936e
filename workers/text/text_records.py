"""Text out of records: of JSON and JSONL, told by content, of CSV and Parquet, and of datasets from a hub.

A record is a text, or an object with a `text`, or with `messages`: chat turns, which the model's own template writes.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from space.errors import CalibrationError, in_one_line

Render = Callable[[list[Any]], str]
"""chat turns -> text"""
_JSON = (".json", ".jsonl", ".ndjson")
_AS_IT_STANDS = {"keep_default_na": False, "na_filter": False}  # a cell is no missing value, whatever it looks like
_TABLES: dict[str, tuple[str, dict[str, Any]]] = {
    ".csv": ("csv", _AS_IT_STANDS),
    ".tsv": ("csv", {"sep": "\t", **_AS_IT_STANDS}),
    ".parquet": ("parquet", {}),
}
_MAX_ROWS = 20_000
_COLUMNS = "It needs a column `text` of strings, or `messages` of chat turns"
_HINT = "It must be a JSON object with a `text` field that is a string, or with `messages` that are chat turns"


def is_table(path: Path) -> bool:
    """Tell whether a file's name says that it holds rows and columns."""
    return path.suffix.lower() in _TABLES


def text_of_table(path: Path, render: Render) -> str:
    """Return the text of a CSV, TSV or Parquet file.

    Raises:
        CalibrationError: it cannot be read, a row has no text, or the optional `datasets` package is not installed.

    """
    kind, options = _TABLES[path.suffix.lower()]
    return _text_of_rows(str(path), render, kind, data_files=str(path), **options)


def text_of_dataset(name: str, render: Render) -> str:
    """Return the text of a dataset's first rows.

    Raises:
        CalibrationError: it cannot be read, a row has no text, or the optional `datasets` package is not installed.

    """
    return _text_of_rows(name, render, name)


def _text_of_rows(source: str, render: Render, path: str, **options: Any) -> str:
    try:
        from datasets import disable_progress_bars, load_dataset, logging

        logging.set_verbosity(logging.CRITICAL)  # what it raises is told once, by us
        disable_progress_bars()
    except ImportError as error:
        raise no_datasets(source) from error
    try:
        rows = list(islice(load_dataset(path, split="train", streaming=True, **options), _MAX_ROWS))
    except Exception as error:  # the library raises many kinds, all of them about the user's name or file
        reason = in_one_line(error.__cause__ or error)
        raise CalibrationError(f"{source}: the dataset cannot be read: {reason}.") from error
    return _joined(((f"{source}: row {i}", row) for i, row in enumerate(rows, 1)), render, _COLUMNS)


def no_datasets(source: str) -> CalibrationError:
    """Return the error of a source that the optional package would read."""
    return CalibrationError(
        f"{source}: not a file of text or JSON; tables and names of datasets need a package: pip install datasets."
    )


def text_of_file(path: Path, text: str, render: Render) -> str:
    """Return what a file's content holds: the texts of its records where it is JSON or JSONL, else itself.

    A file whose name says that it is JSON must be; any other one is if all of it reads as objects.

    Raises:
        CalibrationError: a record has no text; it is named by its line, or its place in a JSON array.

    """
    suffix = path.suffix.lower()
    if suffix not in _JSON:
        return _text_by_content(path, text, render)
    ways = (_entries, _lines) if suffix == ".json" else (_lines, _entries)
    errors = []
    for way in ways:
        try:
            records = list(way(path, text))
        except ValueError as error:
            errors.append(str(error))
        else:
            return _joined(records, render)
    raise CalibrationError(errors[ways.index(_lines)])


def records_of_file(path: Path, text: str) -> list[tuple[str, Any]]:
    """Return where each record of JSON or JSONL is, and the record; none of a file that is neither.

    Raises:
        ValueError: its name says that it is, and it is not.

    """
    suffix = path.suffix.lower()
    if suffix not in _JSON:
        return []
    for way in (_entries, _lines) if suffix == ".json" else (_lines, _entries):
        try:
            return list(way(path, text))
        except ValueError:
            continue
    raise ValueError(f"{path} is no JSON")


def _text_by_content(path: Path, text: str, render: Render) -> str:
    if text.lstrip()[:1] not in ("{", "["):
        return text
    for way in (_entries, _lines):
        try:
            records = list(way(path, text))
        except ValueError:
            continue
        if records and all(isinstance(record, dict) for _, record in records):
            return _joined(records, render)
    return text


def _entries(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield where each record of one JSON document is, and the record."""
    value = _parsed(f"{path}", text)
    if not isinstance(value, list):
        yield f"{path}: its content", value
        return
    yield from ((f"{path}: entry {i}", entry) for i, entry in enumerate(value, 1))


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    """Yield where each record of JSONL is, and the record."""
    for i, line in enumerate(text.split("\n"), 1):  # at nothing else that ends a line for Python: a string may hold it
        if line.strip():
            yield f"{path}: line {i}", _parsed(f"{path}: line {i}", line)


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply.") from None
    except ValueError as error:
        raise ValueError(f"{where} is no JSON ({error}). {_HINT}.") from error


def _joined(records: Iterable[tuple[str, Any]], render: Render, hint: str = _HINT) -> str:
    return "\n".join(_text_of(where, record, render, hint) for where, record in records)


def _text_of(where: str, record: Any, render: Render, hint: str) -> str:
    """Return the text of one record."""
    fields = record if isinstance(record, dict) else {"text": record}
    text, messages = fields.get("text"), fields.get("messages")
    if text is None and isinstance(messages, list):
        text = _rendered(where, messages, render)
    if not isinstance(text, str):
        raise CalibrationError(f"{where} has no text, but {_told(record)}. {hint}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(text[error.start]):04x}"
        raise CalibrationError(f"{where} holds {half}, half of a surrogate pair, which is no character.") from error
    return text


def _rendered(where: str, messages: list[Any], render: Render) -> str:
    try:
        return render(messages)
    except CalibrationError as error:
        raise CalibrationError(f"{where}: {error}") from error


def _told(record: Any) -> str:
    """Say what a record is, or what it has in place of a text."""
    if not isinstance(record, dict):
        return f"is {_kind(record)}"
    if record.get("text") is not None:
        turns = "; chat turns belong into `messages`" if isinstance(record["text"], list) else ""
        return f"its `text` is {_kind(record['text'])}{turns}"
    if "text" in record:
        return "its `text` is null"
    return f"the fields {', '.join(map(repr, list(record)[:5]))}" if record else "no field"


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), f"a {type(value).__name__}")
