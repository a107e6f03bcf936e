"""The header of a safetensors file, checked as the format asks before anything else believes it."""

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, TypeGuard

from space.errors import ModelError
from space.inventory import ITEM_BYTES, TensorInfo
from space.parsing.strict_json import parse_json
from workers.bounded_files import open_regular

_MAX_HEADER_BYTES = 64 * 2**20
_MAX_DIMENSIONS = 16
_MAX_SIZE = 2**63
_PREFIX_BYTES = 8  # the header's length, little-endian
_AGAIN = "Download it again."


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place on disk: `start` is the absolute byte offset of its data in `file`."""

    info: TensorInfo
    file: Path
    start: int


def read_header(path: Path, types: Collection[str] = tuple(ITEM_BYTES)) -> list[StoredTensor]:
    """Return the tensors of one safetensors file from its header alone, in file order: together they fill the file.

    Raises:
        ModelError: the file cannot be read, is truncated or is not safetensors, or has a tensor of none of the types.

    """
    text, size = _header_text(path)
    try:
        entries = _entries(parse_json(text))
    except (TypeError, ValueError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error}). {_AGAIN}") from error
    for entry in entries:
        if entry.info.dtype not in types:
            raise ModelError(f"{path}: {entry.info.name} has the type {entry.info.dtype}, which is not supported.")
    return list(_placed(path, entries, _PREFIX_BYTES + len(text), size))


def _header_text(path: Path) -> tuple[bytes, int]:
    """Return the header of a file, and how many bytes the whole file has."""
    try:
        with open_regular(path) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            length = int.from_bytes(file.read(_PREFIX_BYTES), "little")
            text = file.read(length) if length <= min(_MAX_HEADER_BYTES, size - _PREFIX_BYTES) else b""
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}). {_AGAIN}") from error
    except ValueError as error:
        raise ModelError(f"{path}: not a safetensors file ({error}). {_AGAIN}") from error
    if not text:
        raise ModelError(f"{path}: truncated or not a safetensors file. {_AGAIN}")
    return text, size


@dataclass(frozen=True, slots=True)
class _Entry:
    """One tensor of a header; `begin` and `stop` count from the end of the header."""

    info: TensorInfo
    begin: int
    stop: int


def _entries(header: Any) -> list[_Entry]:
    """Return the tensors of a header. Raises TypeError, ValueError: it is not one."""
    if not isinstance(header, dict):
        raise TypeError("its header is no object")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(v, str) for v in notes.values()):
        raise ValueError("its __metadata__ is not text by name")
    return [_entry(name, value) for name, value in header.items()]


def _entry(name: str, value: Any) -> _Entry:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} is no object")
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str):
        raise TypeError(f"{name} has no dtype")
    if not _are_whole(shape) or len(shape) > _MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise ValueError(f"{name} has no shape")
    if not _are_whole(offsets) or len(offsets) != 2:  # noqa: PLR2004 (begin and end)
        raise ValueError(f"{name} has no data_offsets")
    return _Entry(TensorInfo(name, tuple(shape), dtype), *offsets)


def _are_whole(value: Any) -> TypeGuard[list[int]]:
    """Tell whether a value is a list of whole numbers."""
    return isinstance(value, list) and all(type(v) is int and abs(v) < _MAX_SIZE for v in value)


def _placed(path: Path, entries: list[_Entry], base: int, size: int) -> Iterator[StoredTensor]:
    """Yield tensors with their places, which follow each other from the header to the file's end."""
    end = base + max((e.stop for e in entries), default=0)
    if end != size:
        raise ModelError(f"{path}: {size} bytes, but its header promises {end}: truncated. {_AGAIN}")
    last = _Entry(TensorInfo("its header", (), ""), 0, 0)
    for entry in sorted(entries, key=attrgetter("begin", "stop")):
        name = entry.info.name
        if entry.begin < 0 or entry.stop - entry.begin != entry.info.size_bytes:
            raise ModelError(f"{path}: {name} has no place for {entry.info.shape}. {_AGAIN}")
        if entry.begin != last.stop:
            what = "overlaps with" if entry.begin < last.stop else "leaves a gap behind"
            raise ModelError(f"{path}: not a safetensors file ({name} {what} {last.info.name}). {_AGAIN}")
        last = entry
        yield StoredTensor(entry.info, path, base + entry.begin)
