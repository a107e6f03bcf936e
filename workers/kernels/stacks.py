"""A site's parameter as one matrix, and back.

Shape legend: E experts, O out_features, I in_features; a parameter that is no stack has no E.
"""

from torch import Tensor

from space.site import Site


def as_matrix(parameter: Tensor, site: Site) -> Tensor:
    """Return the (E * O, I) matrix of an (E, O, I) parameter, or of a transposed (E, I, O) one."""
    upright = parameter.transpose(-1, -2) if site.transposed else parameter
    return upright.reshape(site.matrix_shape)


def as_parameter(matrix: Tensor, site: Site) -> Tensor:
    """Return the parameter of a matrix."""
    if not site.transposed:
        return matrix.view(site.shape)
    *stack, columns, rows = site.shape
    return matrix.view(*stack, rows, columns).transpose(-1, -2).contiguous()
