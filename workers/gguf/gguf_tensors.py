"""Tensors of a GGUF file out of those of a checkpoint and of the level store; each is read when it is written.

Shape legend: E experts, O rows.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.codings.ggml_types import DENSE_TYPES, GGML_TYPES
from space.inventory import ITEM_BYTES
from workers.gguf.gguf_architectures import in_file_order
from workers.gguf.gguf_file import GgufTensor
from workers.models.headers import StoredTensor


def _float32(values: NDArray[np.uint8], dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":  # the upper half of a float32
        return (values.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return values.view({"F32": np.float32, "F16": np.float16}[dtype]).astype(np.float32)


def level_tensor(
    name: str, shape: tuple[int, ...], type_name: str, num_heads: int | None, blocks: Callable[[], Any]
) -> GgufTensor:
    """Return a weight of a type; `blocks` gives its (O, bytes) uint8, a torch tensor."""
    entry = GGML_TYPES[type_name]
    size = shape[0] * entry.row_bytes(shape[1])
    return GgufTensor(name, shape, entry.number, size, lambda: in_file_order(blocks().numpy(), num_heads))


def stacked_tensor(name: str, shape: tuple[int, int, int], type_name: str, rows: Callable[[], Any]) -> GgufTensor:
    """Return one matrix of each of E experts at a type; `rows` gives their (E * O, bytes) uint8, a numpy array."""
    entry = GGML_TYPES[type_name]
    return GgufTensor(name, shape, entry.number, shape[0] * shape[1] * entry.row_bytes(shape[2]), rows)


def stored_stack(name: str, tensors: Sequence[StoredTensor]) -> GgufTensor:
    """Return one matrix of each expert as they are in a checkpoint."""
    first, size = tensors[0].info, sum(tensor.info.size_bytes for tensor in tensors)
    shape = (len(tensors), *first.shape)
    return GgufTensor(name, shape, DENSE_TYPES[first.dtype], size, lambda: np.concatenate([_rows(t) for t in tensors]))


def stored_tensor(name: str, tensor: StoredTensor, num_heads: int | None) -> GgufTensor:
    """Return a tensor of a checkpoint as it is."""
    shape, number = tensor.info.shape, DENSE_TYPES[tensor.info.dtype]
    return GgufTensor(name, shape, number, tensor.info.size_bytes, lambda: in_file_order(_rows(tensor), num_heads))


def float32_tensor(name: str, tensor: StoredTensor, num_heads: int | None, added: float = 0.0) -> GgufTensor:
    """Return a tensor of a checkpoint in float32, something added to each value."""

    def load() -> NDArray[np.uint8]:
        values = _float32(_rows(tensor), tensor.info.dtype).reshape(tensor.info.shape) + np.float32(added)
        return in_file_order(values, num_heads).view(np.uint8)

    size = tensor.info.num_elements * ITEM_BYTES["F32"]
    return GgufTensor(name, tensor.info.shape, DENSE_TYPES["F32"], size, load)


def values_tensor(name: str, values: NDArray[np.float32]) -> GgufTensor:
    """Return a tensor of float32 values."""
    return GgufTensor(name, values.shape, DENSE_TYPES["F32"], values.nbytes, lambda: values.view(np.uint8))


def _rows(tensor: StoredTensor) -> NDArray[np.uint8]:
    """Return the (O, bytes) of a stored tensor."""
    found = np.fromfile(tensor.file, dtype=np.uint8, count=tensor.info.size_bytes, offset=tensor.start)
    return found.reshape(tensor.info.shape[0], -1)
