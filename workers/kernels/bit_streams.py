"""Values and masks out of packed rows.

Shape legend: O out_features, I in_features, K kept values per row.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from space.level import Level
from workers.kernels.unpack_tables import bit_mask, quad_mask

UNPACK_MASK: dict[str, Callable[[Tensor, int], Tensor]] = {"unstructured": bit_mask, "2:4": quad_mask}
"""pattern -> ((O, bytes) packed rows, in_features) -> (O, I) bool mask"""


def unpack_bits(stream: Tensor, bits: int, count: int) -> Tensor:
    """Return the (rows, count) int64 values of packed rows."""
    rows = stream.shape[0]
    padded = torch.nn.functional.pad(stream, (0, -stream.shape[1] % bits)).view(rows, -1, bits)
    words = torch.nn.functional.pad(padded, (0, 8 - bits)).view(torch.int64)
    shifts = torch.arange(8, device=stream.device) * bits
    values: Tensor = ((words >> shifts) & (2**bits - 1)).view(rows, -1)[:, :count]
    return values


def unpack_mask(stream: Tensor, level: Level, in_features: int) -> Tensor:
    """Return the (O, I) bool mask."""
    return UNPACK_MASK[level.pattern](stream, in_features)
