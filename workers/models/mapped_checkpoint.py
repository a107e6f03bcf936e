"""Safetensors files that are used where they lie, memory-mapped: those of a model, and new ones larger than memory."""

import json
import mmap
import os
import warnings
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workers.models.headers import StoredTensor
from workers.models.model_files import read_headers

_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_DTYPES |= {"I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8}
_DTYPES |= {"BOOL": torch.bool}


class Checkpoint:
    """Tensors by name.

    Attributes:
        stored: where each of them lies.

    """

    def __init__(self, folder: Path) -> None:
        """Read the headers and map the files; what is put in their place later is not looked at."""
        self.stored: Mapping[str, StoredTensor] = read_headers(folder)
        self._maps = {file: _mapping(file) for file in {stored.file for stored in self.stored.values()}}

    def __contains__(self, name: str) -> bool:
        """Tell whether there is a tensor."""
        return name in self.stored

    def tensor(self, name: str) -> Tensor:
        """Return a tensor that is a view of its file; it must not be written to."""
        stored = self.stored[name]
        if not stored.info.num_elements:  # such as no register tokens
            return torch.empty(stored.info.shape, dtype=_DTYPES[stored.info.dtype])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The given buffer is not writable")
            flat = torch.frombuffer(
                self._maps[stored.file],
                dtype=_DTYPES[stored.info.dtype],
                count=stored.info.num_elements,
                offset=stored.start,
            )
        return flat.view(stored.info.shape)


def _mapping(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def create_safetensors(path: Path, layout: Mapping[str, tuple[torch.dtype, tuple[int, ...]]]) -> dict[str, Tensor]:
    """Make a file of zeros; return its tensors as shared views: what is written to them is in the file.

    Args:
        path: not there yet.
        layout: name -> (type, shape).

    """
    names = {dtype: name for name, dtype in _DTYPES.items()}
    header: dict[str, dict[str, Any]] = {}
    end = 0
    for name, (dtype, shape) in sorted(layout.items(), key=lambda item: (-item[1][0].itemsize, item[0])):
        start, end = end, end + dtype.itemsize * prod(shape)
        header[name] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8 bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
        os.posix_fallocate(file.fileno(), 0, 8 + len(text) + end)  # a full disk is told now, not at the first write
    begin = 8 + len(text)
    bytes_ = torch.from_file(str(path), shared=True, size=begin + end, dtype=torch.uint8)
    return {
        name: bytes_[begin + entry["data_offsets"][0] : begin + entry["data_offsets"][1]]
        .view(layout[name][0])
        .view(layout[name][1])
        for name, entry in header.items()
    }
