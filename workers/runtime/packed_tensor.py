"""A packed level in a parameter's place: the module's own code computes with it as with a tensor.

Layers of other classes than torch's, whose forward has rules of its own, and stacks of experts keep their module this
way. Each use unpacks what it needs: one expert of a stack, the rows that are looked up, else all.
Shape legend: E experts, O out_features, I in_features.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from space.level import Level
from space.site import Site
from workers.kernels.stacks import as_parameter
from workers.runtime.packed_values import Packed

_STACKED = 3


class PackedTensor(Packed):
    """A parameter that is packed; torch's functions take it for the tensor that it stands for."""

    def __init__(self, level: Level, site: Site, output_dtype: torch.dtype) -> None:
        """Make empty buffers for a parameter of a site's shape."""
        super().__init__(level, *site.matrix_shape, output_dtype)
        self.site = site
        self._is_hf_initialized = True  # transformers' own mark: it draws nothing in its place

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch with what packed arguments stand for; an embedding needs some rows alone."""
        if func is nn.functional.embedding and isinstance(args[1], PackedTensor):
            unique, inverse = args[0].unique(return_inverse=True)
            return args[1].dense_weight(unique)[inverse].to(args[1].output_dtype)
        return func(*map(_tensor, args), **{name: _tensor(value) for name, value in (kwargs or {}).items()})

    def tensor(self) -> Tensor:
        """Return the whole parameter, unpacked anew."""
        return as_parameter(self.dense_weight(), self.site).to(self.output_dtype)

    @property
    def shape(self) -> torch.Size:
        """Return the shape of the parameter."""
        return torch.Size(self.site.shape)

    @property
    def ndim(self) -> int:
        """Return the number of its dimensions."""
        return len(self.site.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type that it comes out in."""
        return self.output_dtype

    @property
    def device(self) -> torch.device:
        """Return where it is."""
        return next(self.buffers()).device

    def dim(self) -> int:
        """Return the number of its dimensions."""
        return self.ndim

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one dimension."""
        return self.shape if dim is None else self.shape[dim]

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Return the tensor on another device or in another type; models move and convert packed values by `_apply`."""
        return self.tensor().to(*args, **kwargs)

    def float(self) -> Any:
        """Return the tensor in float32."""
        return self.tensor().float()

    def type(self, dst_type: Any = None) -> Any:
        """Return the tensor in a type."""
        return self.tensor().type(dst_type)

    def __getitem__(self, index: Any) -> Tensor:
        """Return a part; of one expert only its rows are unpacked."""
        is_one = isinstance(index, int) or (
            isinstance(index, Tensor) and index.ndim == 0 and not index.is_floating_point()
        )
        if self.ndim != _STACKED or not is_one:
            return self.tensor()[index]
        rows = self.rows // self.site.shape[0]
        first = int(index) % self.site.shape[0] * rows
        matrix = self.dense_weight(torch.arange(first, first + rows, device=self.device)).to(self.output_dtype)
        return matrix.transpose(0, 1) if self.site.transposed else matrix

    def __matmul__(self, other: Any) -> Tensor:
        """Return the product with what follows."""
        product: Tensor = self.tensor() @ _tensor(other)
        return product

    def __mul__(self, other: Any) -> Tensor:
        """Return it times something."""
        product: Tensor = self.tensor() * _tensor(other)
        return product

    def __add__(self, other: Any) -> Tensor:
        """Return it plus something."""
        total: Tensor = self.tensor() + _tensor(other)
        return total

    def __getattr__(self, name: str) -> Any:
        """Return what a module has under a name, else what the tensor has."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("_") or not hasattr(Tensor, name) or not self.__dict__.get("_buffers"):
                raise
            return getattr(self.tensor(), name)


def _tensor(value: Any) -> Any:
    if isinstance(value, PackedTensor):
        return value.tensor()
    return type(value)(map(_tensor, value)) if type(value) in (tuple, list) else value
