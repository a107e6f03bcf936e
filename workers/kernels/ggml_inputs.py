"""Inputs of a product as llama.cpp's kernels round them: weights of ggml's types meet 8-bit integers, never floats.

K and IQ types of 256 columns take Q8_K (a scale in float32 for 256 values), the others Q8_0 or Q8_1 (one in float16
for 32): `vec_dot_type` of ggml's table of types.
"""

import torch
from torch import Tensor

from space.codings.ggml_types import GGML_TYPES

_LARGEST = 127
_WIDE = 256


def rounded_inputs(inputs: Tensor, type_name: str) -> Tensor:
    """Return (..., I) inputs as a weight of a type meets them."""
    width = GGML_TYPES[type_name].columns
    blocks = inputs.float().reshape(-1, width)
    rounded = _q8_k(blocks) if width == _WIDE else _q8_0(blocks)
    return rounded.view(inputs.shape).to(inputs.dtype)


def _q8_0(blocks: Tensor) -> Tensor:
    scale = blocks.abs().amax(1, keepdim=True) / _LARGEST
    whole = (blocks * torch.where(scale == 0, 0.0, 1 / scale)).round_()
    return whole.mul_(scale.half().float())


def _q8_k(blocks: Tensor) -> Tensor:
    """Return values whose largest, by size, is -127 times the scale."""
    at = blocks.abs().argmax(1, keepdim=True)
    largest = blocks.gather(1, at)
    inverse = torch.where(largest == 0, 0.0, -_LARGEST / largest)
    whole = (blocks * inverse).round_().clamp_(max=_LARGEST)
    return whole.mul_(torch.where(inverse == 0, 0.0, 1 / inverse))
