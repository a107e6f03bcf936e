"""Keys and values as llama.cpp remembers them when it is told a type of ggml: in blocks of 32 values of a head.

Where 64 divides a head, llama.cpp turns its queries and keys by a Hadamard matrix first, the largest that divides it,
and values by one of 64, so that no value is far from the others (`llama-kv-cache.cpp`; ggml-org/llama.cpp#21038).
Shape legend: B sequences, H heads of keys and values, T tokens, D values of a head.
"""

import torch
from torch import Tensor

from workers.kernels.inputs.ggml_inputs import q8_0
from workers.kernels.rotation import hadamard

_BLOCK = 32
_TURNED = 64


def as_ggml(values_bhtd: Tensor, bits: int, part: str) -> Tensor:
    """Return keys or values as llama.cpp has them after it remembered them in so many bits.

    Args:
        values_bhtd: D is a multiple of 32.
        bits: 8 (q8_0), 5 (q5_1) or 4 (q4_0).
        part: "keys" or "values".

    """
    width = _width(values_bhtd.shape[-1], part)
    turned = _turned(values_bhtd.float(), width)
    found: Tensor = _ROUNDED[bits](turned.reshape(-1, _BLOCK)).view(turned.shape)
    return _turned(found, width).to(values_bhtd.dtype)


def _width(size: int, part: str) -> int:
    """Return how many values of a head are turned together; 1: none are."""
    if size % _TURNED:
        return 1
    return size & -size if part == "keys" else _TURNED


def _turned(values: Tensor, width: int) -> Tensor:
    """Turn each `width` values by the symmetric Hadamard matrix, which turns them back too."""
    if width == 1:
        return values
    turned: Tensor = hadamard(values.reshape(-1, width).T.contiguous(), width) * width**-0.5
    return turned.T.reshape(values.shape)


def _q4_0(blocks: Tensor) -> Tensor:
    """Steps of -8 to 7; the value that is largest by size is -8 of them."""
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    step = largest / -8
    codes = (blocks * _inverse(step) + 8.5).floor().clamp(max=15)
    return (codes - 8) * step.half().float()


def _q5_1(blocks: Tensor) -> Tensor:
    """31 steps from the least value to the largest."""
    low = blocks.amin(1, keepdim=True)
    step = (blocks.amax(1, keepdim=True) - low) / 31
    codes = ((blocks - low) * _inverse(step) + 0.5).floor()
    return codes * step.half().float() + low.half().float()


def _inverse(step: Tensor) -> Tensor:
    return torch.where(step == 0, 0.0, 1 / step)


_ROUNDED = {8: q8_0, 5: _q5_1, 4: _q4_0}
