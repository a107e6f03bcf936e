"""Weights that tell what they are multiplied with, for those that no linear layer of torch holds.

A parameter is put in its module's place as a tensor that is followed through slices and views: whatever product it ends
in, of one expert's tokens or of all, its inputs are told. Shape legend: I in_features, O out_features.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

Told = Callable[[Tensor, Tensor], Tensor | None]
"""takes the (..., I) inputs and the (..., O) output of a product; returns what to go on with in the output's place"""
_VIEWS = {
    *(
        "__getitem__",
        "transpose",
        "t",
        "permute",
        "view",
        "reshape",
        "to",
        "float",
        "contiguous",
        "unsqueeze",
        "squeeze",
    ),
    *("type_as", "type", "expand", "detach", "__get__", "flatten", "index_select", "select", "clone", "repeat", "mT"),
}
_PRODUCTS = {"linear", "matmul", "__matmul__", "mm", "bmm", "addmm", "baddbmm"}


class _Watched(Tensor):
    """A weight that is followed."""

    told: Told

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        plain = tuple(_plain(value) for value in args)
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 (as torch's own subclasses do)
            out = func(*plain, **{name: _plain(value) for name, value in (kwargs or {}).items()})
        name = getattr(func, "__name__", "")
        watched = next((value for value in args if isinstance(value, _Watched)), None)
        if watched is None:
            return out
        if name in _PRODUCTS:
            return _told(name, plain, next(i for i, value in enumerate(args) if value is watched), watched.told, out)
        if name in _VIEWS and isinstance(out, Tensor) and out.ndim > 1:
            return _watch(out, watched.told)
        return out


def _told(name: str, args: tuple[Any, ...], place: int, told: Told, out: Tensor) -> Tensor:
    """Tell the other factor of a product, what is summed over last; return its output, or what stands for it."""
    first = 1 if name in ("addmm", "baddbmm") else 0
    if place == first + 1:
        instead = told(args[first], out)
        return out if instead is None else instead
    other = args[first + 1]
    if other.ndim > 1:
        instead = told(other.transpose(-1, -2), out.transpose(-1, -2))
        return out if instead is None else instead.transpose(-1, -2)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, _Watched):
        return value.as_subclass(Tensor)
    return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value


def _watch(weight: Tensor, told: Told) -> _Watched:
    watched = weight.detach().as_subclass(_Watched)
    watched.told = told
    return watched


@contextmanager
def watching(weights: Mapping[str, tuple[nn.Module, str]], told: Callable[[str], Told]) -> Iterator[None]:
    """Tell of every product of some weights while the context lasts.

    Args:
        weights: name -> (module, name of its parameter).
        told: name -> what hears of its products.

    """
    kept = {name: module.get_parameter(last) for name, (module, last) in weights.items()}
    for name, (module, last) in weights.items():
        module._parameters[last] = _watch(kept[name], told(name))  # type: ignore[assignment]  # noqa: SLF001
    try:
        yield
    finally:
        for name, (module, last) in weights.items():
            module._parameters[last] = kept[name]  # noqa: SLF001
