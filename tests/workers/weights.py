"""Weights and correlated activations for the tests of compression."""

import torch
from torch import Tensor


def random_weight(rows: int, columns: int, seed: int = 0) -> Tensor:
    """Return an (O, I) weight with a few large values in it."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    weight[:, ::17] *= 3
    return weight


def correlated_hessian(columns: int, seed: int = 1) -> Tensor:
    """Return the (I, I) Hessian of correlated activations whose energy differs much between columns."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) / columns**0.5 + torch.eye(columns)
    mixing *= torch.logspace(-1, 0.5, columns)[torch.randperm(columns, generator=generator)]
    rows = torch.randn(4 * columns, columns, generator=generator) @ mixing
    hessian: Tensor = rows.T @ rows
    return hessian


def output_error(weight: Tensor, rebuilt: Tensor, hessian: Tensor) -> float:
    """Return ||(W - Q) X||² / ||W X||² in double precision, straight from the definition."""
    weight, difference, hessian = weight.double(), (weight - rebuilt).double(), hessian.double()
    return float(torch.trace(difference @ hessian @ difference.T) / torch.trace(weight @ hessian @ weight.T))
