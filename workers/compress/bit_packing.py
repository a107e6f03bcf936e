"""Values and masks into packed rows; `workers/kernels/bit_streams.py` has their way back.

Shape legend: O out_features, I in_features, K kept values per row.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from space.level import Level
from workers.kernels.unpack_tables import PAIRS


def pack_bits(values: Tensor, bits: int) -> Tensor:
    """Pack (rows, K) unsigned values below 2^bits into (rows, ceil(K * bits / 8)) uint8, least significant bit first.

    Eight values make one 64-bit word of which `bits` bytes are kept.
    """
    rows, count = values.shape
    padded = torch.nn.functional.pad(values.to(torch.int64), (0, -count % 8)).view(rows, -1, 8)
    shifts = torch.arange(8, device=values.device) * bits
    words = (padded << shifts).sum(-1) if bits < 8 else _pack_bytes(padded)  # noqa: PLR2004 (8 x 8 bits)
    stream = words.view(torch.uint8).view(rows, -1, 8)[..., :bits].reshape(rows, -1)
    packed: Tensor = stream[:, : -(-count * bits // 8)].contiguous()
    return packed


def _pack_bytes(padded: Tensor) -> Tensor:
    words: Tensor = padded.to(torch.uint8).contiguous().view(torch.int64).squeeze(-1)
    return words


def _pack_columns(mask: Tensor) -> Tensor:
    return pack_bits(mask.to(torch.int64), 1)


def _pack_quads(mask: Tensor) -> Tensor:
    quads = mask.view(mask.shape[0], -1, 4)
    weights = torch.tensor([8, 4, 2, 1], device=mask.device)
    table = torch.zeros(16, dtype=torch.int64, device=mask.device)
    for code, (first, second) in enumerate(PAIRS):
        table[weights[first] + weights[second]] = code
    return pack_bits(table[(quads * weights).sum(-1)], 3)


PACK_MASK: dict[str, Callable[[Tensor], Tensor]] = {"unstructured": _pack_columns, "2:4": _pack_quads}
"""pattern -> (O, I) mask -> packed rows: one bit per column, or one three-bit code per four columns"""


def pack_mask(mask: Tensor, level: Level) -> Tensor:
    """Pack a (O, I) mask of a level's pattern."""
    return PACK_MASK[level.pattern](mask)
