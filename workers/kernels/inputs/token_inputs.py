"""Inputs of a product as vLLM's kernels round them: one scale for each token, chosen as it comes.

Integers are those of `dynamic_scaled_int8_quant` (csrc/quantization of vLLM): the largest of a token is 127. Floats are
those of its `dynamic_per_token_scaled_fp8_quant`: the largest is 448, and values are divided by the scale.
"""

import torch
from torch import Tensor

from space.codings.float8_coding import LARGEST

_LARGEST = 127
_LEAST_SCALE = 1 / (LARGEST * 512)


def token_int8(inputs: Tensor) -> Tensor:
    """Return (..., I) inputs, rounded."""
    values = inputs.float()
    largest = values.abs().amax(-1, keepdim=True)
    whole = (values * torch.where(largest == 0, 0.0, _LARGEST / largest)).round_()
    return whole.mul_(largest / _LARGEST).to(inputs.dtype)


def token_float8(inputs: Tensor) -> Tensor:
    """Return (..., I) inputs, rounded."""
    values = inputs.float()
    scale = (values.abs().amax(-1, keepdim=True) / LARGEST).clamp_min_(_LEAST_SCALE)
    rounded = (values / scale).clamp_(-LARGEST, LARGEST).to(torch.float8_e4m3fn).float()
    return rounded.mul_(scale).to(inputs.dtype)
