"""Which weights to keep: magnitude, Wanda (arXiv 2306.11695) and SparseGPT (arXiv 2301.00774, algorithm 1).

Every method keeps the same exact number of values in each row and block of 128 columns, so that bytes are known before.
Shape legend: O out_features, I in_features, B columns of one block.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from space.codings.masks import PRUNING_BLOCK
from space.level import Level
from workers.compress.rounding_inputs import inverse_factor

PruningMethod = Literal["magnitude", "wanda", "sparsegpt"]


def prune_mask(weight: Tensor, hessian: Tensor, level: Level, method: PruningMethod = "sparsegpt") -> Tensor:
    """Return the (O, I) bool mask of kept weights for a level's sparsity and pattern."""
    if method == "sparsegpt":
        return _sparsegpt_mask(weight, hessian, level)
    score = weight.abs()
    if method == "wanda":
        score = score * hessian.diagonal().clamp_min(0).sqrt()
    blocks = [_keep(part, level) for part in score.split(PRUNING_BLOCK, dim=1)]
    return torch.cat(blocks, dim=1)


def _keep_share(score: Tensor, sparsity: float) -> Tensor:
    """Keep an exact count of the highest scores of each row of one (O, B) block."""
    dropped = int(score.shape[1] * sparsity)
    indices = score.topk(score.shape[1] - dropped, dim=-1).indices
    return torch.zeros_like(score, dtype=torch.bool).scatter_(-1, indices, value=True)


def _keep_two_of_four(score: Tensor, _: float) -> Tensor:
    quads = score.reshape(score.shape[0], -1, 4)
    kept = torch.zeros_like(quads, dtype=torch.bool).scatter_(-1, quads.topk(2, dim=-1).indices, value=True)
    return kept.view(score.shape)


KEEP: dict[str, Callable[[Tensor, float], Tensor]] = {"unstructured": _keep_share, "2:4": _keep_two_of_four}
"""pattern -> ((O, B) scores of a block, sparsity) -> (O, B) bool mask of the highest ones"""


def _keep(score: Tensor, level: Level) -> Tensor:
    return KEEP[level.pattern](score, level.sparsity)


def _sparsegpt_mask(weight: Tensor, hessian: Tensor, level: Level) -> Tensor:
    """Choose each block's mask by w² / [H⁻¹]² after earlier blocks' errors were fed forward."""
    factor = inverse_factor(hessian)
    left, masks = weight.clone(), []
    columns = weight.shape[1]
    for start in range(0, columns, PRUNING_BLOCK):
        stop = min(start + PRUNING_BLOCK, columns)
        block = left[:, start:stop].clone()
        local = factor[start:stop, start:stop]
        mask = _keep(block.square() / local.diagonal().square(), level)
        errors = torch.zeros_like(block)
        for i in range(stop - start):
            errors[:, i] = block[:, i] * ~mask[:, i] / local[i, i]
            block[:, i + 1 :].addr_(errors[:, i], local[i, i + 1 :], alpha=-1)
        left[:, stop:] -= errors @ factor[start:stop, stop:]
        masks.append(mask)
    return torch.cat(masks, dim=1)
