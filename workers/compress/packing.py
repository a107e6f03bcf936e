"""Bit packing: the stored form of one module at one level, and its way back to a dense weight.

Shape legend: O out_features, I in_features, G groups, K kept values per row, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from space.cost import kept_columns
from space.level import Level
from workers.compress.rotation import rotate_back
from workers.kernels.trellis_code import decode, window_rows
from workers.kernels.unpack_tables import PAIRS, bit_mask, integer_values, quad_mask, trellis_values

Tensors = Mapping[str, Tensor]


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


def unpack_bits(stream: Tensor, bits: int, count: int) -> Tensor:
    """Return the (rows, count) int64 values of packed rows."""
    rows = stream.shape[0]
    padded = torch.nn.functional.pad(stream, (0, -stream.shape[1] % bits)).view(rows, -1, bits)
    words = torch.nn.functional.pad(padded, (0, 8 - bits)).view(torch.int64)
    shifts = torch.arange(8, device=stream.device) * bits
    values: Tensor = ((words >> shifts) & (2**bits - 1)).view(rows, -1)[:, :count]
    return values


def pack_mask(mask: Tensor, level: Level) -> Tensor:
    """Pack a (O, I) mask: one bit per column, or for 2:4 one three-bit code per four columns."""
    if level.pattern == "2:4":
        quads = mask.view(mask.shape[0], -1, 4)
        weights = torch.tensor([8, 4, 2, 1], device=mask.device)
        table = torch.zeros(16, dtype=torch.int64, device=mask.device)
        for code, (first, second) in enumerate(PAIRS):
            table[weights[first] + weights[second]] = code
        return pack_bits(table[(quads * weights).sum(-1)], 3)
    return pack_bits(mask.to(torch.int64), 1)


def unpack_mask(stream: Tensor, level: Level, in_features: int) -> Tensor:
    """Return the (O, I) bool mask."""
    return quad_mask(stream, in_features) if level.pattern == "2:4" else bit_mask(stream, in_features)


def pack(codes: Codes, level: Level) -> dict[str, Tensor]:
    """Return the stored tensors of a level; `space.cost` counts exactly these bytes."""
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    unsigned = codes.values.to(torch.int64) + 2 ** (level.bits - 1)
    tensors = {"scale": codes.scale.contiguous()}
    if codes.mask is not None:
        unsigned = unsigned[codes.mask].view(unsigned.shape[0], -1)
        tensors["mask"] = pack_mask(codes.mask, level)
    tensors["qweight"] = pack_bits(unsigned, level.bits)
    if codes.left is not None and codes.right is not None and codes.factor_scale is not None:
        tensors |= {
            "left": codes.left.contiguous(),
            "right": codes.right.contiguous(),
            "factor_scale": codes.factor_scale.contiguous(),
        }
    return tensors


def column_scale(scale: Tensor, level: Level, in_features: int) -> Tensor:
    """Return (O, I) or broadcastable (O, 1) float32 scales from (O, G)."""
    if level.group_size is None:
        return scale.float()
    return scale.float().repeat_interleave(level.group_size, dim=1)[:, :in_features]


def unpack(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None = None) -> Tensor:
    """Return the (O, I) float32 weight that packed tensors stand for, or only its (n,) `rows`, to the same bits."""
    values = _values(tensors, level, in_features, rows)
    weight = _scaled(values, tensors["scale"] if rows is None else tensors["scale"][rows], level)
    if "left" in tensors:
        left = tensors["left"] if rows is None else tensors["left"][rows]
        weight += (left.float() * tensors["factor_scale"]) @ tensors["right"].float()
    return rotate_back(weight) if level.rotated else weight


def _scaled(values: Tensor, scale: Tensor, level: Level) -> Tensor:
    """Return (n, I) values times their scales, in place."""
    rows, columns = values.shape
    if level.group_size is None or columns % level.group_size:
        return values.mul_(column_scale(scale, level, columns))
    return values.view(rows, -1, level.group_size).mul_(scale.float().unsqueeze(-1)).view(rows, columns)


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    """Return the (n, I) float32 values before scaling, zero where pruned."""
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    stream = tensors["qweight"]
    if level.coding == "integer":
        stream = stream if rows is None else stream[rows]
        if "mask" not in tensors:
            return integer_values(stream, level.bits, in_features)
        mask = unpack_mask(tensors["mask"] if rows is None else tensors["mask"][rows], level, in_features)
        kept = integer_values(stream, level.bits, kept_columns(level, in_features))
        return torch.zeros(mask.shape, device=mask.device).masked_scatter_(mask, kept)
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
