"""Where a level goes: a parameter of a model as one matrix, and the stored tensors that it is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any


@dataclass(frozen=True, slots=True)
class Site:
    """A parameter that is no plain layer's weight stored under its own name.

    A parameter of three dimensions is a stack of matrices, one for each expert: their rows stand below each other in
    one matrix, so that all of them share a level, as runtimes have it.

    Attributes:
        parameter: its name in the model.
        shape: of the parameter.
        sources: names of the stored tensors that hold its values, and nothing else.
        is_layer: it is the weight of a plain linear layer or embedding, which a packed module can stand for.
        transposed: its matrices stand as (in, out) in the parameter.

    """

    parameter: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    is_layer: bool = False
    transposed: bool = False

    @property
    def matrix_shape(self) -> tuple[int, int]:
        """Return (rows, columns) of the matrix, columns being what a row is multiplied with."""
        columns = self.shape[-2 if self.transposed else -1]
        return prod(self.shape) // columns, columns

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
