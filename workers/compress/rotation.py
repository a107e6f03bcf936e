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


def rotate(weight: Tensor) -> Tensor:
    """Return the (N, I) float32 weight in rotated columns: weight @ R with R orthogonal."""
    turned_in = weight.T.clone(memory_format=torch.contiguous_format)  # changed in place below
    for start, width, signs in _passes(weight.shape[1]):
        part = turned_in[start : start + len(signs)]
        part.copy_(_hadamard(part * signs.to(weight.device), width))
    return turned_in.T.contiguous()


def rotate_back(weight: Tensor) -> Tensor:
    """Return weight @ Rᵀ: what `rotate` has turned, up to rounding, as it was."""
    turned_in = weight.T.clone(memory_format=torch.contiguous_format)  # changed in place below
    for start, width, signs in reversed(_passes(weight.shape[1])):
        part = turned_in[start : start + len(signs)]
        part.copy_(_hadamard(part, width).mul_(signs.to(weight.device)))
    return turned_in.T.contiguous()


def rotate_hessian(hessian: Tensor) -> Tensor:
    """Return Rᵀ H R, the (I, I) Hessian of rotated inputs."""
    turned = rotate(rotate(hessian).T)
    return (turned + turned.T) / 2


@lru_cache
def _passes(columns: int) -> tuple[tuple[int, int, Tensor], ...]:
    """Return (first column, columns of one block, (S, 1) signs) of each pass."""
    block = columns & -columns
    if block >= _SMALLEST_BLOCK or block == columns:
        return ((0, block, _signs(columns, 0, columns)),)
    width = 1 << (columns.bit_length() - 1)
    return tuple((start, width, _signs(columns, i, width)) for i, start in enumerate((0, columns - width)))


def _signs(columns: int, index: int, count: int) -> Tensor:
    drawn = shake_256(f"tightfit rotation {columns} {index}".encode()).digest(count)
    return torch.tensor([[1.0] if byte & 1 else [-1.0] for byte in drawn])


def _hadamard(columns_sn: Tensor, width: int) -> Tensor:
    """Return the normalised Walsh-Hadamard transform of each block of `width` of (S, N) columns, by butterflies."""
    source, half = columns_sn.contiguous(), 1
    while half < width:
        pairs = source.view(-1, 2, half, columns_sn.shape[1])
        target = torch.empty_like(pairs)
        torch.add(pairs[:, 0], pairs[:, 1], out=target[:, 0])
        torch.sub(pairs[:, 0], pairs[:, 1], out=target[:, 1])
        source, half = target.view(columns_sn.shape), half * 2
    transformed: Tensor = source * width**-0.5
    return transformed
