"""Floats of 8 bits out of packed rows, which are their bytes."""

import torch
from torch import Tensor

from space.level import Level, kept_columns
from workers.kernels.bit_streams import unpack_mask
from workers.kernels.kernel import Kernel, Tensors


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    stored = tensors["qweight"] if rows is None else tensors["qweight"][rows]
    kept = stored.view(torch.float8_e4m3fn).float()
    if "mask" not in tensors:
        return kept
    assert kept.shape[1] == kept_columns(level, in_features)  # noqa: S101 (the layout's)
    mask = unpack_mask(tensors["mask"] if rows is None else tensors["mask"][rows], level, in_features)
    return torch.zeros(mask.shape, device=mask.device).masked_scatter_(mask, kept)


FLOAT8_KERNEL = Kernel(_values)
