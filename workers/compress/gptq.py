"""GPTQ (arXiv 2210.17323, algorithm 1) with static scales, for many levels of one weight at once, onto any codes.

Rows never interact, so levels are stacked as more rows; columns are taken in order of falling activation energy, which
static scales allow for any group size. A mask keeps pruned columns at zero while their error is still fed forward.
Shape legend: I in_features, N stacked rows (levels x out_features), B columns of one block.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from workers.compress.rounding_inputs import Inputs

Rounder = Callable[[Tensor, Tensor, Tensor | None], tuple[Tensor, Tensor]]
"""(N,) wanted values in units of the scale, (N,) scale, (N,) one where kept -> (N,) codes, (N,) their values"""

_BLOCK = 32


def integer_rounder(half: Tensor) -> Rounder:
    """Return the rounding to integers in [-half, half - 1]; `half` is (N,) 2^(bits - 1) of each row."""
    low, high = -half, half - 1

    def round_column(targets: Tensor, _: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        code = torch.minimum(torch.maximum(targets.round_(), low), high)
        if keep is not None:
            code *= keep
        return code, code

    return round_column


def gptq(weight: Tensor, scale: Tensor, rounder: Rounder, inputs: Inputs, mask: Tensor | None = None) -> Tensor:
    """Quantize rows with error feedback.

    Args:
        weight: (N, I) float32.
        scale: (N, I) float32, the fixed scale of every value.
        rounder: how one column is rounded, all rows at once.
        inputs: of the module.
        mask: (N, I) bool, True where kept; None keeps all.

    Returns:
        (N, I) int16 codes, zero where pruned.

    """
    order, factor = inputs.order, inputs.feedback
    left_in = weight.T[order].contiguous()
    scale_in = scale.T[order].contiguous()
    keep_in = None if mask is None else mask.T[order].to(weight.dtype).contiguous()
    del weight, scale  # each as large as what was made of it
    codes_in = torch.empty_like(left_in, dtype=torch.int16)
    columns = left_in.shape[0]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        errors_bn = torch.empty_like(left_in[start:stop])
        for i in range(start, stop):
            keep = None if keep_in is None else keep_in[i]
            codes_in[i], value = rounder(left_in[i] / scale_in[i], scale_in[i], keep)
            error = (left_in[i] - value * scale_in[i]).div_(factor[i, i])
            if i + 1 < stop:
                left_in[i + 1 : stop].addr_(factor[i, i + 1 : stop], error, alpha=-1)
            errors_bn[i - start] = error
        if stop < columns:
            left_in[stop:].addmm_(factor[start:stop, stop:].T, errors_bn, alpha=-1)
    codes = torch.empty_like(codes_in)
    codes[order] = codes_in
    return codes.T


def output_energy(weight: Tensor, hessian: Tensor, rows: Tensor | None = None) -> float:
    """Return ||W X||² over the calibration tokens behind the Hessian, rows weighed by (O,) `rows` if given."""
    energy = (weight @ hessian).mul_(weight)
    return float((energy if rows is None else energy * rows[:, None]).sum(dtype=torch.float64))


def error_energy(error: Tensor, hessian: Tensor, metric: Tensor | None) -> float:
    """Return tr(E H_in Eᵀ H_out) of an (O, I) error E; without a metric of outputs, the output error ||E X||²."""
    moved = error @ hessian
    return float(moved.mul_(error if metric is None else metric @ error).sum(dtype=torch.float64))
