"""Values of a trellis out of packed rows: a row's values need the rows before it in its segment, too."""

import torch
from torch import Tensor

from space.level import Level, kept_columns
from workers.kernels.bit_streams import unpack_bits, unpack_mask
from workers.kernels.kernel import Kernel, Tensors
from workers.kernels.trellis_code import decode, window_rows
from workers.kernels.unpack_tables import trellis_values


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    stream = tensors["qweight"]
    if "mask" not in tensors:
        return trellis_values(stream, rows, level.bits, in_features)
    windows = window_rows(torch.arange(len(stream), device=stream.device) if rows is None else rows, len(stream))
    if rows is None:
        symbols, mask = _symbols(stream, tensors["mask"], level, in_features)
        steps = [(symbols & 1).index_select(0, at) for at in windows]
    else:
        around, masks = _symbols(stream[windows.flatten()], tensors["mask"][windows.flatten()], level, in_features)
        symbols, *_ = windowed = around.view(*windows.shape, in_features)
        steps, mask = list(windowed & 1), masks[: len(rows)]
    return decode(symbols, steps, level.bits).mul_(mask)


def _symbols(stream: Tensor, mask_stream: Tensor, level: Level, in_features: int) -> tuple[Tensor, Tensor]:
    """Return (n, I) unsigned int16 symbols, zero where pruned, and the (n, I) mask of kept ones."""
    mask = unpack_mask(mask_stream, level, in_features)
    kept = unpack_bits(stream, level.bits or 8, kept_columns(level, in_features)).to(torch.int16)
    return torch.zeros(mask.shape, dtype=torch.int16, device=mask.device).masked_scatter_(mask, kept), mask


TRELLIS_KERNEL = Kernel(_values)
