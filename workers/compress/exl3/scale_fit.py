"""Both scale vectors of a rounded weight, fitted in closed form: each is the solution of a linear system.

With V the rounded values turned back, the weight is diag(r) V diag(s). For fixed r the loss tr(Eᵀ A E B) is least where
((Qᵀ A Q) o B) s = diag(Qᵀ A W B), Q = diag(r) V; for fixed s where ((M B Mᵀ) o A) r = diag(A W B Mᵀ), M = V diag(s)
(o is the product of entries; exllamav3 does the same with B = 1).
Shape legend: I in_features (rows here), O out_features (columns here).
"""

import torch
from torch import Tensor

_LARGEST = 6e4  # what float16 holds


def fitted_scales(
    weight: Tensor, values: Tensor, scales: tuple[Tensor, Tensor], metrics: tuple[Tensor, Tensor | None]
) -> tuple[Tensor, Tensor]:
    """Return float16 scales of inputs and outputs; those given, where fitting makes nothing better.

    Args:
        weight: (I, O) float32.
        values: (I, O) float32 values that scales stand around.
        scales: (I,) and (O,) float16.
        metrics: (I, I) A and (O, O) B, positive definite; None is the identity.

    """
    inner, outer = metrics
    carried = inner @ weight if outer is None else inner @ weight @ outer  # A W B
    rows, columns = (scale.float() for scale in scales)
    best, least = scales, _loss(weight, values, scales, metrics)
    for _ in range(2):
        columns = _fit(values * rows[:, None], inner, outer, carried)
        rows = _fit((values * columns).T, outer, inner, carried.T)
        found = (rows.clamp(-_LARGEST, _LARGEST).half(), columns.clamp(-_LARGEST, _LARGEST).half())
        loss = _loss(weight, values, found, metrics)
        if not loss < least:
            break
        best, least = found, loss
    return best


def _fit(base: Tensor, across: Tensor | None, along: Tensor | None, carried: Tensor) -> Tensor:
    """Return s of least loss where base diag(s) stands for the weight; `across` and `along` its rows and columns."""
    wanted = (base * carried).sum(0)
    energy = base if across is None else across @ base
    if along is None:
        return wanted / (base * energy).sum(0).clamp_min(1e-30)
    products = (base.T @ energy * along).double()
    products.diagonal().add_(1e-9 * products.diagonal().mean() + 1e-30)
    solved: Tensor = torch.linalg.solve(products, wanted.double()).float()
    return solved


def _loss(
    weight: Tensor, values: Tensor, scales: tuple[Tensor, Tensor], metrics: tuple[Tensor, Tensor | None]
) -> float:
    error = weight - values * scales[0].float()[:, None] * scales[1].float()
    cost = metrics[0] @ error
    cost = cost if metrics[1] is None else cost @ metrics[1]
    return float((cost * error).sum(dtype=torch.float64))
