"""Writing safetensors files by copying byte ranges: nothing is decoded, no more than a buffer is in memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from space.inventory import TensorInfo
from workers.models.headers import StoredTensor

_CHUNK_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor to write: its new name, shape and type, and its bytes: ranges of files one by one, or as they are."""

    info: TensorInfo
    source: StoredTensor | Sequence[StoredTensor] | bytes


def stored_entry(name: str, tensor: StoredTensor) -> Entry:
    """Return an entry that copies a stored tensor under a name."""
    return Entry(TensorInfo(name, tensor.info.shape, tensor.info.dtype), tensor)


def write_container(path: Path, entries: Sequence[Entry]) -> int:
    """Write a safetensors file; return the bytes of its tensors, the header aside.

    The header is padded with spaces to a multiple of eight bytes, as the format asks for alignment.
    """
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in entries:
        end = offset + entry.info.size_bytes
        header[entry.info.name] = {
            "dtype": entry.info.dtype,
            "shape": list(entry.info.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for entry in entries:
            _copy(entry, out)
    return offset


def _copy(entry: Entry, out: BinaryIO) -> None:
    if isinstance(entry.source, bytes):
        assert len(entry.source) == entry.info.size_bytes  # noqa: S101 (our own conversion)
        out.write(entry.source)
        return
    if isinstance(entry.source, StoredTensor):
        _copy_range(entry.source, entry.info, out)
        return
    assert sum(part.info.size_bytes for part in entry.source) == entry.info.size_bytes  # noqa: S101 (our own parts)
    for part in entry.source:
        _copy_range(part, part.info, out)


def _copy_range(stored: StoredTensor, info: TensorInfo, out: BinaryIO) -> None:
    with stored.file.open("rb") as source:
        source.seek(stored.start)
        left = info.size_bytes
        while left:
            chunk = source.read(min(left, _CHUNK_BYTES))
            if not chunk:
                raise OSError(f"{stored.file} ended before {info.name} was whole")
            out.write(chunk)
            left -= len(chunk)
