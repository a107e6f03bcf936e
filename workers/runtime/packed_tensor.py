"""A packed level in a parameter's place: the module's own code computes with it as with a tensor.

Layers of other classes than torch's, whose forward has rules of its own, and stacks of experts keep their module this
way. Each use unpacks what it needs: one expert of a stack, the rows that are looked up, else all.
Shape legend: E experts, O out_features, I in_features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from space.level import Level
from space.site import Site
from workers.kernels.stacks import as_parameter
from workers.runtime.packed_values import Packed

_STACKED = 3


class StandsForTensor(nn.Module):
    """What torch's functions take for the tensor that it stands for; `_apply` moves and converts what it holds."""

    shape: torch.Size
    dtype: torch.dtype

    def tensor(self) -> Tensor:
        """Return the whole parameter, unpacked anew."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], _types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Call a function of torch with what packed arguments stand for; an embedding needs some rows alone."""
        if func is nn.functional.embedding and isinstance(args[1], PackedTensor):
            unique, inverse = args[0].unique(return_inverse=True)
            return args[1].dense_weight(unique)[inverse].to(args[1].output_dtype)
        return func(*map(_tensor, args), **{name: _tensor(value) for name, value in (kwargs or {}).items()})

    @property
    def ndim(self) -> int:
        """Return the number of its dimensions."""
        return len(self.shape)

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
        """Return a part."""
        return self.tensor()[index]

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
            has_values = self.__dict__.get("_buffers") or self.__dict__.get("_modules")
            if name.startswith("_") or not hasattr(Tensor, name) or not has_values:
                raise
            return getattr(self.tensor(), name)


class PackedTensor(StandsForTensor, Packed):
    """A parameter that is packed, or the matrix of one expert."""

    def __init__(self, level: Level, site: Site, output_dtype: torch.dtype) -> None:
        """Make empty buffers for a parameter of a site's shape."""
        super().__init__(level, *site.matrix_shape, output_dtype)
        self.site = site
        self._is_hf_initialized = True  # transformers' own mark: it draws nothing in its place

    def tensor(self) -> Tensor:
        """Return the whole parameter, unpacked anew."""
        return as_parameter(self.dense_weight(), self.site).to(self.output_dtype)

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """Return the shape of the parameter."""
        return torch.Size(self.site.value_shape)

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Return the type that it comes out in."""
        return self.output_dtype

    def __getitem__(self, index: Any) -> Tensor:
        """Return a part; of one expert only its rows are unpacked."""
        if self.ndim != _STACKED or not _is_one(index):
            return self.tensor()[index]
        rows = self.rows // self.site.shape[0]
        first = int(index) % self.site.shape[0] * rows
        matrix = self.dense_weight(torch.arange(first, first + rows, device=self.device)).to(self.output_dtype)
        return matrix.transpose(0, 1) if self.site.transposed else matrix


class PackedStack(StandsForTensor):
    """A stack of experts, each packed at a level of its own."""

    def __init__(self, experts: Sequence[PackedTensor]) -> None:
        """Take the experts in their order."""
        super().__init__()
        for index, expert in enumerate(experts):
            self.add_module(str(index), expert)
        self._is_hf_initialized = True

    @property
    def experts(self) -> list[PackedTensor]:
        """Return the experts in their order."""
        return [expert for expert in self._modules.values() if isinstance(expert, PackedTensor)]

    def tensor(self) -> Tensor:
        """Return all of the parameter, unpacked anew."""
        return torch.stack([expert.tensor() for expert in self.experts])

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        """Return the shape of the parameter."""
        return torch.Size((len(self.experts), *self.experts[0].shape))

    @property
    def dtype(self) -> torch.dtype:  # type: ignore[override]
        """Return the type that it comes out in."""
        return self.experts[0].dtype

    def __getitem__(self, index: Any) -> Tensor:
        """Return a part; of one expert only that is unpacked."""
        return self.experts[int(index)].tensor() if _is_one(index) else self.tensor()[index]


def _is_one(index: Any) -> bool:
    """Tell whether an index names one expert."""
    return isinstance(index, int) or (isinstance(index, Tensor) and index.ndim == 0 and not index.is_floating_point())


def _tensor(value: Any) -> Any:
    if isinstance(value, StandsForTensor):
        return value.tensor()
    return type(value)(map(_tensor, value)) if type(value) in (tuple, list) else value
