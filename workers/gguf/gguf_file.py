"""GGUF files written and read tensor by tensor, by the `gguf` package: no more than one tensor is in memory."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor of a file.

    Attributes:
        name: in the file.
        shape: of its values, rows first.
        number: of its type (`enum ggml_type`).
        num_bytes: stored.
        load: its bytes, rows first: uint8 (O, row bytes), or (bytes,).

    """

    name: str
    shape: tuple[int, ...]
    number: int
    num_bytes: int
    load: Callable[[], NDArray[np.uint8]]


def write_gguf(path: Path, architecture: str, add_fields: Callable[[Any], None], tensors: Sequence[GgufTensor]) -> int:
    """Write a file; return the bytes of its tensors, what stands between them aside."""
    import gguf

    writer = gguf.GGUFWriter(path, architecture)
    add_fields(writer)
    for tensor in tensors:
        kind = gguf.GGMLQuantizationType(tensor.number)
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.num_bytes, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        found = tensor.load()
        assert found.nbytes == tensor.num_bytes, tensor.name  # noqa: S101 (our own arithmetic)
        writer.write_tensor_data(found)
    writer.close()
    return sum(tensor.num_bytes for tensor in tensors)


def architecture_in(path: Path) -> str:
    """Return the architecture that a file says it has."""
    import gguf

    field = gguf.GGUFReader(path).get_field(gguf.Keys.General.ARCHITECTURE)
    return str(field.contents()) if field is not None else ""


def read_gguf(path: Path) -> Iterator[GgufTensor]:
    """Yield the tensors of a file, memory-mapped."""
    import gguf

    for found in gguf.GGUFReader(path).tensors:
        data: NDArray[Any] = found.data
        shape = tuple(int(size) for size in reversed(found.shape))
        yield GgufTensor(found.name, shape, int(found.tensor_type), data.nbytes, partial(data.view, np.uint8))
