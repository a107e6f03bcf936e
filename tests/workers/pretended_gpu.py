"""A pretended GPU: its tensors hold CPU tensors, are computed with real numbers, and refuse to meet those on the CPU.

It refuses what a real one refuses: operands on two devices (but for scalars, and for indices on the CPU), and to be
read as an array before it is copied back. So what runs on GPUs is run to its end where there is none. To be used in a
process of its own: torch keeps a registered device for good.
"""

from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
_aten = torch.ops.aten
_COPIES = (_aten.copy_.default, _aten._to_copy.default)
_INDEXED = (_aten.index.Tensor, _aten.index_put_.default, _aten._index_put_impl_.default)


class GpuTensor(Tensor):
    """A tensor of the pretended GPU.

    Attributes:
        held: the CPU tensor with its values.

    """

    held: Tensor

    @staticmethod
    def __new__(cls: type[Self], held: Tensor) -> Self:
        found: Self = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        found.held = held
        return found

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operator: Any, _types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Compute on the CPU what has operands on this device."""
        kwargs = kwargs or {}
        operands = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
        _check(operator, args, operands)
        device = kwargs.get("device")
        stays = isinstance(args[0], GpuTensor) if operator is _COPIES[0] else device is None or device.type == NAME
        known = {id(x.held): x for x in operands if isinstance(x, GpuTensor)}
        if device is not None:
            kwargs = kwargs | {"device": torch.device("cpu")}
        found = operator(*tree_map(_held, args), **tree_map(_held, kwargs))
        return tree_map(lambda x: known.get(id(x), x) if id(x) in known or not stays else _there(x), found)

    def tolist(self) -> Any:
        """Return the values, as a GPU's tensors do."""
        return self.held.tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        """Return the values as text."""
        return f"GpuTensor({self.held!r})"


def _held(x: Any) -> Any:
    return x.held if isinstance(x, GpuTensor) else x


def _there(x: Any) -> Any:
    return GpuTensor(x) if isinstance(x, Tensor) else x


def _check(operator: Any, args: Any, operands: list[Tensor]) -> None:
    if operator in _COPIES:
        return
    if operator in _INDEXED and isinstance(args[0], GpuTensor):
        operands = [args[0], *args[2:3]]
    strangers = [tuple(x.shape) for x in operands if x.dim() > 0 and not isinstance(x, GpuTensor)]
    if strangers:
        raise RuntimeError(f"{operator}: {strangers} are on the CPU, but others are on the device")


def _empty(size: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return GpuTensor(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
    return GpuTensor(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, to: Tensor, _non_blocking: bool = False) -> Tensor:  # noqa: FBT001, FBT002 (torch's)
    _held(to).copy_(_held(source))
    return to


_library = torch.library.Library("aten", "IMPL")


def register() -> None:
    """Give this process the device."""
    _setup_privateuseone_for_python_backend(NAME)
    _library.impl("empty.memory_format", _empty, "PrivateUse1")
    _library.impl("empty_strided", _empty_strided, "PrivateUse1")
    _library.impl("_copy_from", _copy_from, "PrivateUse1")
