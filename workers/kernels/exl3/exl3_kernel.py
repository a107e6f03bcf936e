"""Weights of the EXL3 coding out of their tiles: W = diag(svh) P Qᵀ P diag(suh), P turning each 128 neighbours.

Outputs are unpacked in blocks of 128, which turn together, and each block for itself: so a row has the same bits
whichever others are asked for. Only sums and differences of two values are taken, and products with one.
Shape legend: O out_features, I in_features, B blocks of 128 outputs, n rows.
"""

import torch
from torch import Tensor

from space.level import Level
from workers.kernels.exl3.exl3_code import TILE, tile_values
from workers.kernels.kernel import Kernel, Tensors
from workers.kernels.rotation import hadamard

BLOCK = 128
_TILES = BLOCK // TILE


def _weight(tensors: Tensors, level: Level, _: int, rows: Tensor | None) -> Tensor:
    assert level.bits is not None  # noqa: S101 (dense levels are never packed)
    if rows is None:
        blocks = torch.arange(len(tensors["svh"]) // BLOCK, device=tensors["svh"].device)
        return _blocks(tensors, level.bits, blocks)
    blocks, place = (rows // BLOCK).unique(return_inverse=True)
    return _blocks(tensors, level.bits, blocks)[place * BLOCK + rows % BLOCK]


def _blocks(tensors: Tensors, bits: int, blocks: Tensor) -> Tensor:
    """Return the (128 B, I) float32 rows of (B,) blocks of outputs."""
    trellis, inputs = tensors["trellis"], tensors["suh"].float()
    outputs = tensors["svh"].float().view(-1, BLOCK, 1) / BLOCK  # what both transforms are normalised by
    weight = torch.empty(len(blocks) * BLOCK, len(inputs), device=trellis.device)
    for block, rows in zip(blocks.tolist(), weight.split(BLOCK), strict=True):
        words = trellis[:, block * _TILES : (block + 1) * _TILES].reshape(-1, trellis.shape[2])
        tiles = tile_values(words, bits).view(-1, _TILES, TILE, TILE)
        turned = hadamard(tiles.permute(0, 2, 1, 3).reshape(-1, BLOCK), BLOCK).mul_(inputs[:, None])
        torch.mul(hadamard(turned.T.contiguous(), BLOCK), outputs[block], out=rows)
    return weight


EXL3_KERNEL = Kernel(_weight)
