"""Integers out of packed rows."""

import torch
from torch import Tensor

from space.level import Level, kept_columns
from workers.kernels.bit_streams import unpack_mask
from workers.kernels.kernel import Kernel, Tensors
from workers.kernels.unpack_tables import integer_values


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    stream = tensors["qweight"] if rows is None else tensors["qweight"][rows]
    if "mask" not in tensors:
        return integer_values(stream, level.bits, in_features)
    mask = unpack_mask(tensors["mask"] if rows is None else tensors["mask"][rows], level, in_features)
    kept = integer_values(stream, level.bits, kept_columns(level, in_features))
    return torch.zeros(mask.shape, device=mask.device).masked_scatter_(mask, kept)


INTEGER_KERNEL = Kernel(_values)
