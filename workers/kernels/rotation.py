"""A fixed random rotation of a weight's columns: randomised Hadamard transforms (QuIP#, arXiv 2402.04396, section 3).

A rotated weight looks Gaussian whatever the weight was, and no column carries much more than another. The transform
works in blocks of the largest power of two that divides the width; where that is small, one of the first 2^k columns,
2^k the largest power below the width, is followed by one of the last 2^k. Signs follow from the width
alone, so nothing is stored and modules that read the same input share a rotation. Only sums and differences of two
values are taken, so any subset of rows turns to the same bits on any device.
Shape legend: N rows, I columns, S columns of one pass.
"""

from functools import lru_cache
from hashlib import shake_256

import torch
from torch import Tensor

_SMALLEST_BLOCK = 64
_CACHED_VALUES = 2**17  # turned at a time, so that they stay in a processor's cache
_GPU_VALUES = 2**26  # the same on a GPU, which is slow to begin and needs no cache


def rotate(weight: Tensor) -> Tensor:
    """Return the (N, I) float32 weight in rotated columns: weight @ R with R orthogonal."""
    return _turned(weight, back=False)


def rotate_back(weight: Tensor) -> Tensor:
    """Return weight @ Rᵀ: what `rotate` has turned, up to rounding, as it was."""
    return _turned(weight, back=True)


def _turned(weight: Tensor, *, back: bool) -> Tensor:
    """Turn some rows at a time: their bits do not depend on how many."""
    turned = torch.empty_like(weight, memory_format=torch.contiguous_format)
    passes = [(start, width, signs.to(weight.device)) for start, width, signs in rotation_passes(weight.shape[1])]
    count = max(1, (_CACHED_VALUES if weight.device.type == "cpu" else _GPU_VALUES) // weight.shape[1])
    for part, out in zip(weight.split(count), turned.split(count), strict=True):
        turned_in = part.T.clone(memory_format=torch.contiguous_format)  # changed in place below
        for start, width, signs in reversed(passes) if back else passes:
            some = turned_in[start : start + len(signs)]
            if back:
                some.copy_(hadamard(some, width).mul_(signs * width**-0.5))
            else:
                some.copy_(hadamard(some * signs, width).mul_(width**-0.5))
        out.copy_(turned_in.T)
    return turned


def rotate_hessian(hessian: Tensor) -> Tensor:
    """Return Rᵀ H R, the (I, I) Hessian of rotated inputs."""
    turned = rotate(rotate(hessian).T)
    return (turned + turned.T) / 2


@lru_cache
def rotation_passes(columns: int) -> tuple[tuple[int, int, Tensor], ...]:
    """Return (first column, columns of one block, (S, 1) signs) of each pass."""
    block = columns & -columns
    if block >= _SMALLEST_BLOCK or block == columns:
        return ((0, block, _signs(columns, 0, columns)),)
    width = 1 << (columns.bit_length() - 1)
    return tuple((start, width, _signs(columns, i, width)) for i, start in enumerate((0, columns - width)))


def _signs(columns: int, index: int, count: int) -> Tensor:
    drawn = shake_256(f"tightfit rotation {columns} {index}".encode()).digest(count)
    return torch.tensor([[1.0] if byte & 1 else [-1.0] for byte in drawn])


def hadamard(columns_sn: Tensor, width: int) -> Tensor:
    """Return the unnormalised Walsh-Hadamard transform of each block of `width` of (S, N) columns, by butterflies."""
    source, spare, half = columns_sn, torch.empty_like(columns_sn), 1
    while half < width:
        pairs, target = (x.view(-1, 2, half, columns_sn.shape[1]) for x in (source, spare))
        torch.add(pairs[:, 0], pairs[:, 1], out=target[:, 0])
        torch.sub(pairs[:, 0], pairs[:, 1], out=target[:, 1])
        source, spare, half = spare, source if source is not columns_sn else torch.empty_like(spare), half * 2
    return source.clone() if source is columns_sn else source
