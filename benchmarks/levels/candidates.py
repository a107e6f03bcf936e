"""Kinds of level that did not earn a place in the product; each is quantized with the same error feedback.

Shape legend: O out_features, I in_features, G groups, K codebook values.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import torch
from torch import Tensor

from space.level import Level
from workers.compress.gptq import gptq, integer_rounder
from workers.compress.rounding_inputs import Inputs
from workers.compress.scales import search_scales
from workers.kernels.rotation import rotate, rotate_back, rotate_hessian
from workers.kernels.unpack import column_scale

Built = tuple[Tensor, int]
"""the (O, I) weight that would be stored, and its bytes"""
Candidate = Callable[[Tensor, Tensor, int], Built]
_ROUNDS = 30


def codebook(weight: Tensor, hessian: Tensor, bits: int) -> Built:
    """One k-means codebook of 2^bits float16 values per module, one scale per row (SqueezeLLM, arXiv 2306.07629)."""
    scale = weight.square().mean(1, keepdim=True).sqrt().half().float()
    values = _k_means(weight / scale, scale.square() * hessian.diagonal(), 2**bits)

    def nearest(targets: Tensor, _: Tensor, __: Tensor | None) -> tuple[Tensor, Tensor]:
        index = torch.bucketize(targets, (values[1:] + values[:-1]) / 2)
        return index, values[index]

    found = gptq(weight, scale.expand_as(weight), nearest, Inputs(hessian))
    size = weight.shape[0] * (-(-weight.shape[1] * bits // 8) + 2) + 2 ** (bits + 1)
    return values[found.long()] * scale, size


def vectors(weight: Tensor, hessian: Tensor, bits: int) -> Built:
    """Pairs of rows share an index into 4^bits points of the plane: a Gaussian grid (HIGGS, arXiv 2411.17525)."""
    scale = weight.square().mean(1, keepdim=True).sqrt().half().float()
    points = _plane_grid(4**bits)

    def nearest(targets: Tensor, _: Tensor, __: Tensor | None) -> tuple[Tensor, Tensor]:
        index = torch.cdist(targets.view(-1, 2), points).argmin(1)
        return index.repeat_interleave(2), points[index].flatten()

    found = gptq(weight, scale.expand_as(weight), nearest, Inputs(hessian)).long()
    parity = torch.arange(len(weight))[:, None] % 2
    return points[found, parity] * scale, weight.shape[0] * (-(-weight.shape[1] * bits // 8) + 2)


def lean_scales(group_size: int) -> Candidate:
    """Return integers whose group scales are 8-bit shares of one float16 parent per row, as k-quants have them."""

    def build(weight: Tensor, hessian: Tensor, bits: int) -> Built:
        level, (rows, columns) = Level(bits, group_size), weight.shape
        scale = search_scales(weight, level, hessian.diagonal()).float()
        parent = (scale.abs().amax(1, keepdim=True) / 127).half().float()
        shares = (scale / parent).round().clamp(-127, 127)
        shares = torch.where(shares == 0, torch.ones_like(shares), shares)
        fine = column_scale(shares * parent, level, columns).expand(rows, columns)
        codes = gptq(weight, fine, integer_rounder(torch.full((rows,), 2.0 ** (bits - 1))), Inputs(hessian))
        return codes.float() * fine, rows * (-(-columns * bits // 8) + scale.shape[1] + 2)

    return build


def rotated(candidate: Candidate) -> Candidate:
    """Return a kind of level applied to the rotated weight."""

    def build(weight: Tensor, hessian: Tensor, bits: int) -> Built:
        found, size = candidate(rotate(weight), rotate_hessian(hessian), bits)
        return rotate_back(found), size

    return build


CANDIDATES: Mapping[str, Candidate] = {
    "codebook": codebook,
    "codebook, rotated": rotated(codebook),
    "vectors, rotated": rotated(vectors),
    "8-bit scales, g32": lean_scales(32),
    "8-bit scales, g16": lean_scales(16),
}


def _k_means(values: Tensor, importance: Tensor, count: int) -> Tensor:
    """Return (K,) rising float16 values of the least weighted squared error."""
    flat, weights = values.flatten(), importance.expand_as(values).flatten()
    centres = flat.quantile((torch.arange(count) + 0.5) / count) if flat.numel() < 2**24 else flat[:count].sort().values
    for _ in range(_ROUNDS):
        index = torch.bucketize(flat, (centres[1:] + centres[:-1]) / 2)
        sums = torch.zeros(count).index_add_(0, index, flat * weights)
        totals = torch.zeros(count).index_add_(0, index, weights)
        centres = torch.where(totals > 0, sums / totals.clamp_min(1e-20), centres).sort().values
    return centres.half().float()


@lru_cache
def _plane_grid(count: int) -> Tensor:
    """Return (K, 2) points by k-means on Gaussian values, fixed seed."""
    sample = torch.randn(40_000, 2, generator=torch.Generator().manual_seed(0))
    points = sample[:count].clone()
    for _ in range(_ROUNDS):
        index = torch.cdist(sample, points).argmin(1)
        sums = torch.zeros(count, 2).index_add_(0, index, sample)
        totals = torch.bincount(index, minlength=count)[:, None]
        points = torch.where(totals > 0, sums / totals.clamp_min(1), points)
    return points
