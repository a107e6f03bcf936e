"""Inputs of a product as ONNX Runtime's MatMulNBits rounds them at `accuracy_level` 4: integers, a scale a block.

A block has as many columns as a scale of the weight; its largest value is 127 (`QuantizeARow_CompInt8` of MLAS, on x86;
KleidiAI's kernels on ARM give a row one scale, and an offset).
"""

import torch
from torch import Tensor

_LARGEST = 127


def block_int8(inputs: Tensor, size: int | None) -> Tensor:
    """Return (..., I) inputs, rounded in blocks of `size` columns; None: of all."""
    blocks = inputs.float().reshape(-1, size or inputs.shape[-1])
    largest = blocks.abs().amax(1, keepdim=True)
    whole = (blocks * torch.where(largest == 0, 0.0, _LARGEST / largest)).round_()
    return whole.mul_(largest / _LARGEST).view(inputs.shape).to(inputs.dtype)
