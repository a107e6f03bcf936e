"""Where a level goes: a parameter of a model as one matrix, and the stored tensors that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

_STACKED = 3
MXFP4 = "mxfp4"
"""what configs call the format of four-bit codes with one exponent for each 32 of them"""


@dataclass(frozen=True, slots=True)
class Site:
    """A parameter that is no plain layer's weight stored under its own name.

    A parameter of three dimensions is a stack of matrices, one for each expert: their rows stand below each other in
    one matrix, so that all of them share a level, as runtimes have it; or each is a site of its own. One of more is
    the kernel of a convolution that cuts its input into patches: a row multiplies all values of a patch.

    Attributes:
        parameter: its name in the model.
        shape: of the parameter.
        sources: names of the stored tensors that hold its values, and nothing else.
        is_layer: it is the weight of a plain linear layer or embedding, which a packed module can stand for.
        transposed: its matrices stand as (in, out) in the parameter.
        stored_as: the format of its stored tensors where they are codes; its values are then those that they stand for.
        expert: which matrix of a stack it is; None: all of the parameter.

    """

    parameter: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    is_layer: bool = False
    transposed: bool = False
    expert: int | None = None
    stored_as: str | None = None

    @property
    def num_experts(self) -> int | None:
        """Return how many experts the parameter holds; None: it is no stack."""
        return self.shape[0] if len(self.shape) == _STACKED else None

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Return (rows, columns) of the matrix, columns being what a row is multiplied with."""
        if len(self.shape) > _STACKED:
            return self.shape[0], prod(self.shape[1:])
        columns = self.shape[-2 if self.transposed else -1]
        rows = prod(self.shape) // columns
        return rows if self.expert is None else rows // self.shape[0], columns

    @property
    def value_shape(self) -> tuple[int, ...]:
        """Return the shape of what it is in the parameter: all of it, or one matrix."""
        return self.shape if self.expert is None else self.shape[1:]

    @staticmethod
    def from_json(value: Mapping[str, Any] | None) -> "Site | None":
        """Read a JSON object."""
        if value is None:
            return None
        return Site(**{**value, "shape": tuple(value["shape"]), "sources": tuple(value["sources"])})


@dataclass(frozen=True, slots=True)
class Carried:
    """Stored tensors that are copied into an export unchanged.

    Attributes:
        name: what their names begin with.
        size_bytes: all of them together.
        reason: why no level goes there.

    """

    name: str
    size_bytes: int
    reason: str
