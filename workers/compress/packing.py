"""Bit packing: the stored form of one module at one level, and its way back to a dense weight.

Shape legend: O out_features, I in_features, G groups, K kept values per row, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from space.level import Level
from workers.compress.rotation import rotate_back
from workers.compress.trellis import decode, window_rows

_PAIRS = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
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
        for code, (first, second) in enumerate(_PAIRS):
            table[weights[first] + weights[second]] = code
        return pack_bits(table[(quads * weights).sum(-1)], 3)
    return pack_bits(mask.to(torch.int64), 1)


def unpack_mask(stream: Tensor, level: Level, in_features: int) -> Tensor:
    """Return the (O, I) bool mask."""
    if level.pattern == "2:4":
        codes = unpack_bits(stream, 3, in_features // 4)
        table = torch.zeros(6, 4, dtype=torch.bool, device=stream.device)
        for code, pair in enumerate(_PAIRS):
            table[code, list(pair)] = True
        return table[codes].view(stream.shape[0], in_features)
    return unpack_bits(stream, 1, in_features).bool()


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
    scale = tensors["scale"] if rows is None else tensors["scale"][rows]
    weight = values.mul_(column_scale(scale, level, in_features))
    if "left" in tensors:
        left = tensors["left"] if rows is None else tensors["left"][rows]
        weight += (left.float() * tensors["factor_scale"]) @ tensors["right"].float()
    return rotate_back(weight) if level.rotated else weight


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    """Return the (n, I) float32 values before scaling, zero where pruned."""
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    if level.coding == "integer":
        symbols, mask = _symbols(tensors, level, in_features, rows)
        integers: Tensor = (symbols - 2 ** (level.bits - 1)).float()
        return integers if mask is None else integers.mul_(mask)
    num_rows = len(tensors["qweight"])
    if rows is None:
        found, mask = _symbols(tensors, level, in_features, None)
        symbols = found.to(torch.int16)
        own = symbols & 1
        steps = [own.index_select(0, at) for at in window_rows(torch.arange(num_rows, device=own.device), num_rows)]
    else:
        windows = window_rows(rows, num_rows)
        found, masks = _symbols(tensors, level, in_features, windows.flatten())
        around = found.to(torch.int16).view(*windows.shape, in_features)
        symbols, steps = around[0], list(around & 1)
        mask = None if masks is None else masks[: len(rows)]
    values = decode(symbols, steps, level.bits)
    return values if mask is None else values.mul_(mask)


def _symbols(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return (n, I) unsigned int64 symbols, zero where pruned, and the (n, I) mask of kept ones, if there is one."""
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    qweight = tensors["qweight"] if rows is None else tensors["qweight"][rows]
    if "mask" not in tensors:
        return unpack_bits(qweight, level.bits, in_features), None
    stream = tensors["mask"] if rows is None else tensors["mask"][rows]
    mask = unpack_mask(stream, level, in_features)
    kept = int(mask[0].sum()) if mask.numel() else 0
    symbols = torch.zeros(mask.shape, dtype=torch.int64, device=qweight.device)
    symbols[mask] = unpack_bits(qweight, level.bits, kept).flatten()
    return symbols, mask
