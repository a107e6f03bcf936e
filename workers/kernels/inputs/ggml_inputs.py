"""Inputs of a product as llama.cpp's kernels round them: weights of ggml's types meet 8-bit integers, never floats.

K and IQ types of 256 columns take Q8_K (a scale in float32 for 256 values), the others Q8_0 or Q8_1 (one in float16
for 32): `vec_dot_type` of ggml's table of types.
"""

import torch
from torch import Tensor

_LARGEST = 127
_WIDE, _NARROW = 256, 32


def q8_0(inputs: Tensor) -> Tensor:
    """Return (..., I) inputs, rounded in blocks of 32."""
    blocks = inputs.float().reshape(-1, _NARROW)
    scale = blocks.abs().amax(1, keepdim=True) / _LARGEST
    whole = (blocks * torch.where(scale == 0, 0.0, 1 / scale)).round_()
    return whole.mul_(scale.half().float()).view(inputs.shape).to(inputs.dtype)


def q8_k(inputs: Tensor) -> Tensor:
    """Return (..., I) inputs, rounded in blocks of 256 whose largest, by size, is -127 times the scale."""
    blocks = inputs.float().reshape(-1, _WIDE)
    at = blocks.abs().argmax(1, keepdim=True)
    largest = blocks.gather(1, at)
    inverse = torch.where(largest == 0, 0.0, -_LARGEST / largest)
    whole = (blocks * inverse).round_().clamp_(max=_LARGEST)
    rounded = whole.mul_(torch.where(inverse == 0, 0.0, 1 / inverse))
    return rounded.view(inputs.shape).to(inputs.dtype)
