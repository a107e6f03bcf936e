"""A site's parameter as one matrix, and back.

Shape legend: E experts, O out_features, I in_features; a parameter that is no stack has no E. Kernels of patches are
(O, channels, *sides): their I are channels times sides.
"""

from torch import Tensor

from space.site import Site


def as_matrix(parameter: Tensor, site: Site) -> Tensor:
    """Return the (E * O, I) matrix of an (E, O, I) parameter, or of a transposed one; (O, I) of one expert."""
    upright = parameter.transpose(-1, -2) if site.transposed else parameter
    return upright.reshape(site.matrix_shape)


def as_parameter(matrix: Tensor, site: Site) -> Tensor:
    """Return the parameter of a matrix, or that part of it which the site is."""
    if not site.transposed:
        return matrix.view(site.value_shape)
    *stack, columns, rows = site.value_shape
    return matrix.view(*stack, rows, columns).transpose(-1, -2).contiguous()


def part_of(parameter: Tensor, site: Site | None) -> Tensor:
    """Return what a site is of its parameter, as a view: all of it, or one expert's matrix."""
    return parameter if site is None or site.expert is None else parameter[site.expert]
