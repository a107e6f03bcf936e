"""Inputs of a product as vLLM's kernels round them for NVFP4: floats of 4 bits, a scale for 16 columns of a token.

`scaled_fp4_quant` (csrc/quantization/fp4 of vLLM): the scale of a group is a sixth of its largest value, in units of
the layer's own, rounded to 8 bits; values over it go to the nearest float of 4 bits, ties to even.
"""

from itertools import pairwise

import torch
from torch import Tensor

from space.codings.float4_coding import INPUT_UNIT, LARGEST, VALUES
from space.codings.float8_coding import LARGEST as LARGEST_SCALE

_SIZE = 16
_MIDDLES = tuple((low + high) / 2 for low, high in pairwise(VALUES))
_TIES_GO_UP = (False, True, False, True, False, True, False)  # to the even code


def group_float4(inputs: Tensor) -> Tensor:
    """Return (..., I) inputs, rounded."""
    groups = inputs.float().reshape(-1, _SIZE)
    wanted = groups.abs().amax(1, keepdim=True) / (LARGEST * INPUT_UNIT)
    scale = wanted.clamp_(max=LARGEST_SCALE).to(torch.float8_e4m3fn).float().mul_(INPUT_UNIT)
    rounded = nearest_float4(torch.where(scale == 0, 0.0, groups / scale)).mul_(scale)
    return rounded.view(inputs.shape).to(inputs.dtype)


def nearest_float4(values: Tensor) -> Tensor:
    """Return the nearest float of 4 bits of each value, ties to even."""
    size, found = values.abs(), torch.zeros_like(values)
    for middle, is_up, (low, high) in zip(_MIDDLES, _TIES_GO_UP, pairwise(VALUES), strict=True):
        found += (high - low) * (size >= middle if is_up else size > middle)
    return found.copysign_(values)
