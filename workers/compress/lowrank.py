"""Low-rank correction of a quantization residual, whitened by the activations (SVD-LLM, arXiv 2403.07378, section 3).

Shape legend: O out_features, I in_features, R rank.
"""

import torch
from torch import Tensor

from workers.compress.rounding_inputs import Inputs


def low_rank(residual: Tensor, inputs: Inputs, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return int8 factors of the best rank-R approximation of a residual under the calibration activations.

    With H = S Sᵀ the truncated SVD of (residual @ S) minimises ||(residual - left right) X||.

    Args:
        residual: (O, I) float32.
        inputs: of the module.
        rank: number of components.

    Returns:
        left (O, R) int8, right (R, I) int8, factor_scale (R,) float32: residual ~ (left * factor_scale) @ right.

    """
    root = inputs.root
    u, s, vt = torch.linalg.svd(residual @ root, full_matrices=False)
    left = u[:, :rank] * s[:rank].sqrt()
    right = torch.linalg.solve_triangular(root, vt[:rank] * s[:rank, None].sqrt(), upper=False, left=False)
    left_scale = left.abs().amax(0).clamp_min(1e-12) / 127
    right_scale = right.abs().amax(1).clamp_min(1e-12) / 127
    return (
        (left / left_scale).round().to(torch.int8),
        (right / right_scale[:, None]).round().to(torch.int8),
        left_scale * right_scale,
    )
