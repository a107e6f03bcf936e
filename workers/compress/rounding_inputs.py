"""What compression needs to know of a module's inputs: their Hessian, and what follows from it.

A factorization takes as long as an error feedback through a wide weight, so that each is made once for all levels.
Shape legend: I in_features.
"""

from functools import cached_property

import torch
from torch import Tensor

_DAMPING = 0.01


class Inputs:
    """The inputs of one module.

    Attributes:
        hessian: (I, I) float32.

    """

    def __init__(self, hessian: Tensor) -> None:
        """Take the Hessian; nothing is worked out yet."""
        self.hessian = hessian

    @cached_property
    def order(self) -> Tensor:
        """Return the (I,) columns in order of falling activation energy."""
        return torch.argsort(self.hessian.diagonal(), descending=True, stable=True)

    @cached_property
    def feedback(self) -> Tensor:
        """Return the (I, I) factor that carries errors forward through the columns in that order."""
        return inverse_factor(self.hessian[self.order][:, self.order])

    @cached_property
    def root(self) -> Tensor:
        """Return the (I, I) lower triangular S with S Sᵀ = H."""
        root: Tensor = torch.linalg.cholesky(damped(self.hessian).double()).float()
        return root


def damped(hessian: Tensor) -> Tensor:
    """Return the (I, I) Hessian with dead columns set to one and 1 % of the mean diagonal added."""
    diagonal = hessian.diagonal()
    mean = diagonal.mean().clamp_min(1e-12)
    return hessian + torch.diag(torch.where(diagonal == 0, mean, mean * _DAMPING))


def inverse_factor(hessian: Tensor) -> Tensor:
    """Return U, upper triangular with UᵀU = H⁻¹ (the Cholesky form of GPTQ's algorithm 1)."""
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped(hessian).double()))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True).float()
    return factor


def conditional_energy(hessian: Tensor) -> Tensor:
    """Return (I,) 1 / U_ii²: what of each column's squared error cannot be made good by the columns behind it.

    H = R Rᵀ with R = U⁻¹ upper triangular: the Cholesky factor of H with its columns in reverse order.
    """
    reversed_factor = torch.linalg.cholesky(damped(hessian).double().flip(0, 1))
    energy: Tensor = reversed_factor.diagonal().flip(0).square().float()
    return energy
