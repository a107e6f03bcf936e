"""Bit packing: the stored form of one module at one level; `workers/kernels` has its way back.

Shape legend: O out_features, I in_features, G groups, K kept values per row, R rank.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from space.level import Level
from workers.compress.bit_packing import pack_mask
from workers.compress.builders.builder_table import column_builder


@dataclass(frozen=True, slots=True)
class Codes:
    """A quantized weight before packing.

    Attributes:
        values: (O, I) int16 in [-2^(bits-1), 2^(bits-1) - 1]: integers or symbols, zero where pruned.
        scale: (O, G) float16.
        mask: (O, I) bool, True where kept; None is dense.
        left, right: (O, R) and (R, I) int8 with factor_scale (R,) float32, or None.

    """

    values: Tensor
    scale: Tensor
    mask: Tensor | None = None
    left: Tensor | None = None
    right: Tensor | None = None
    factor_scale: Tensor | None = None


def pack(codes: Codes, level: Level) -> dict[str, Tensor]:
    """Return the stored tensors of a level; `space.cost` counts exactly these bytes."""
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    unsigned = codes.values.to(torch.int64) + 2 ** (level.bits - 1)
    tensors = {"scale": codes.scale.contiguous()}
    if codes.mask is not None:
        unsigned = unsigned[codes.mask].view(unsigned.shape[0], -1)
        tensors["mask"] = pack_mask(codes.mask, level)
    tensors |= column_builder(level).store(unsigned, level.bits)
    if codes.left is not None and codes.right is not None and codes.factor_scale is not None:
        tensors |= {
            "left": codes.left.contiguous(),
            "right": codes.right.contiguous(),
            "factor_scale": codes.factor_scale.contiguous(),
        }
    return tensors
