"""Floats of 4 bits out of packed rows: each value times the scale of its group.

Shape legend: n rows, I in_features, G groups.
"""

import torch
from torch import Tensor

from space.codings.float4_coding import FLOAT4_GROUPS, MXFP4, UNIT, VALUES
from space.codings.float8_coding import LARGEST as LARGEST_SCALE
from space.level import Level
from workers.kernels.kernel import Kernel, Tensors

_BIAS = 127  # of an exponent
_LEAST_SCALE = 2.0**-9  # of E4M3
_CODES = torch.tensor((*VALUES, *(-value for value in VALUES)))


def group_scales(stored: Tensor, level: Level) -> Tensor:
    """Return float32 scales of uint8 ones."""
    if level.coding == MXFP4.name:
        return torch.exp2(stored.float() - _BIAS)
    return stored.view(torch.float8_e4m3fn).float().mul_(UNIT)


def stored_scales(scales: Tensor, level: Level) -> Tensor:
    """Return the uint8 scales that are the nearest to some; none is zero."""
    if level.coding == MXFP4.name:
        return scales.clamp_min(2.0**-_BIAS).log2_().round_().add_(_BIAS).to(torch.uint8)
    units = (scales / UNIT).clamp_(_LEAST_SCALE, LARGEST_SCALE)
    return units.to(torch.float8_e4m3fn).view(torch.uint8)


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    packed, stored = (tensors[name] if rows is None else tensors[name][rows] for name in ("qweight", "scale"))
    codes = torch.stack((packed & 0x0F, packed >> 4), -1).view(len(packed), -1, FLOAT4_GROUPS[level.coding])
    values = _CODES.to(packed.device)[codes.long()]
    return values.mul_(group_scales(stored, level).unsqueeze(-1)).view(len(packed), in_features)


FLOAT4_KERNEL = Kernel(_values)
