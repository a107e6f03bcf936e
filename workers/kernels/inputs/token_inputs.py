"""Inputs of a product as vLLM's kernels round them: one scale for each token, chosen as it comes.

Integers are those of `dynamic_scaled_int8_quant` (csrc/quantization of vLLM): the largest of a token is 127.
"""

import torch
from torch import Tensor

_LARGEST = 127


def token_int8(inputs: Tensor) -> Tensor:
    """Return (..., I) inputs, rounded."""
    values = inputs.float()
    largest = values.abs().amax(-1, keepdim=True)
    whole = (values * torch.where(largest == 0, 0.0, _LARGEST / largest)).round_()
    return whole.mul_(largest / _LARGEST).to(inputs.dtype)
