"""ggml's own code by ctypes: what llama.cpp makes of a weight, and what it reads out of the bytes.

The library is the prebuilt one of the `libggml-python` package, of the `gguf` extra. It ends the process where it is
given what it does not expect, so everything is checked before.
Shape legend: N rows, I columns.
"""

import ctypes
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from space.codings.ggml_types import GGML_TYPES
from space.errors import SpecError

_MISSING = "Types of ggml need ggml's own code, which is not installed: pip install 'tightfit[gguf]'."


@lru_cache
def _library() -> ctypes.CDLL:
    spec = find_spec("libggml")
    if spec is None or spec.origin is None:
        raise SpecError(_MISSING)
    library = ctypes.CDLL(str(Path(spec.origin).parent / "lib64" / "libggml-base.so"))
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        *(ctypes.c_void_p, ctypes.c_void_p),
        *(ctypes.c_int64, ctypes.c_int64, ctypes.c_int64),
        ctypes.c_void_p,
    ]
    for entry in GGML_TYPES.values():
        read = getattr(library, f"dequantize_row_{entry.name}")
        read.restype, read.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    return library


def quantize(weight: Tensor, type_name: str, importance: Tensor | None) -> Tensor:
    """Return (N, bytes) uint8 blocks of a weight.

    Args:
        weight: (N, I) float32, on the CPU and finite; blocks of the type divide I.
        type_name: of `GGML_TYPES`.
        importance: (I,) float32, positive: the weights of squared errors (an "imatrix"); None: as keys and values are.

    """
    entry, library = GGML_TYPES[type_name], _library()
    assert weight.dtype == torch.float32 and weight.device.type == "cpu"  # noqa: S101, PT018 (our own callers)
    weight, importance = weight.contiguous(), None if importance is None else importance.float().contiguous()
    rows, columns = weight.shape
    blocks = torch.empty(rows, entry.row_bytes(columns), dtype=torch.uint8)
    library.ggml_quantize_init(ctypes.c_int(entry.number))  # makes the tables of an IQ type, once: seconds for some
    written = library.ggml_quantize_chunk(
        *(entry.number, weight.data_ptr(), blocks.data_ptr(), 0, rows, columns),
        None if importance is None else importance.data_ptr(),
    )
    assert written == blocks.numel()  # noqa: S101 (ggml's own arithmetic)
    return blocks


def dequantize(blocks: Tensor, type_name: str) -> Tensor:
    """Return the (N, I) float32 values of (N, bytes) uint8 blocks, as llama.cpp reads them."""
    entry, blocks = GGML_TYPES[type_name], blocks.contiguous()
    values = torch.empty(len(blocks), blocks.shape[1] // entry.block_bytes * entry.columns)
    if values.numel():
        getattr(_library(), f"dequantize_row_{type_name}")(blocks.data_ptr(), values.data_ptr(), values.numel())
    return values
