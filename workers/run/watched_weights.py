"""Weights that tell what they are multiplied with, for those that no linear layer of torch holds.

A parameter is put in its module's place as a tensor that is followed through slices and views: whatever product it ends
in, of one expert's tokens or of all, its inputs are told. Shape legend: E experts, I in_features, O out_features.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from space.inventory import ModuleInfo

Told = Callable[[Tensor, Tensor, int | None], Tensor | None]
"""takes the (..., I) inputs and the (..., O) output of a product, and which expert of a stack it is; returns what to go
on with in the output's place. No expert: the parameter is no stack, or all of it is multiplied at once, (E, ..., I)"""
_STACKED = 3
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
_PATCHES = {"conv2d", "conv3d"}


class _Watched(Tensor):
    """A weight that is followed."""

    told: Told
    expert: int | None

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
            return _told(name, plain, next(i for i, value in enumerate(args) if value is watched), watched, out)
        if name in _PATCHES:
            instead = watched.told(_patches(plain[0], watched.shape[2:]), out.movedim(1, -1), watched.expert)
            return out if instead is None else instead.movedim(-1, 1)
        if name in _VIEWS and isinstance(out, Tensor) and out.ndim > 1:
            return _watch(out, watched.told, watched.expert if name != "__getitem__" else _chosen(watched, args[1]))
        return out


def _chosen(watched: _Watched, index: Any) -> int | None:
    """Return which expert is taken of a stack."""
    if watched.ndim != _STACKED:
        return watched.expert
    first = index[0] if isinstance(index, tuple) else index
    is_one = isinstance(first, int) or (isinstance(first, Tensor) and first.ndim == 0 and not first.is_floating_point())
    return int(first) % watched.shape[0] if is_one else watched.expert


def _told(name: str, args: tuple[Any, ...], place: int, watched: _Watched, out: Tensor) -> Tensor:
    """Tell the other factor of a product, what is summed over last; return its output, or what stands for it."""
    first = 1 if name in ("addmm", "baddbmm") else 0
    if place == first + 1:
        instead = watched.told(args[first], out, watched.expert)
        return out if instead is None else instead
    other = args[first + 1]
    if other.ndim > 1:
        instead = watched.told(other.transpose(-1, -2), out.transpose(-1, -2), watched.expert)
        return out if instead is None else instead.transpose(-1, -2)
    return out


def _patches(inputs: Tensor, sides: Sequence[int]) -> Tensor:
    """Return the patches of (B, channels, *places) inputs: (B, *patches, I), as a kernel of such sides meets them."""
    for place, side in enumerate(sides, 2):
        inputs = inputs.unfold(place, side, side)
    return inputs.movedim(1, -1 - len(sides)).flatten(-1 - len(sides))


def _plain(value: Any) -> Any:
    if isinstance(value, _Watched):
        return value.as_subclass(Tensor)
    return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value


def _watch(weight: Tensor, told: Told, expert: int | None = None) -> _Watched:
    watched = weight.detach().as_subclass(_Watched)
    watched.told, watched.expert = told, expert
    return watched


class SitesOf:
    """Which sites a product with a watched parameter belongs to, where each expert of a stack may be one."""

    def __init__(self, watched: Sequence[ModuleInfo]) -> None:
        """Take the sites."""
        self._of: dict[str, dict[int | None, str]] = {}
        for module in watched:
            expert = None if module.site is None else module.site.expert
            self._of.setdefault(module.parameter, {})[expert] = module.name

    def places(self, modules: Mapping[str, nn.Module]) -> dict[str, tuple[nn.Module, str]]:
        """Return parameter -> (module, its name there)."""
        parts = {name: name.rpartition(".") for name in self._of}
        return {name: (modules[owner], last) for name, (owner, _, last) in parts.items()}

    def names(self, parameter: str, expert: int | None) -> tuple[str, ...]:
        """Return the site of a product; several, in the order of experts, where one product is of all experts apart."""
        of = self._of[parameter]
        if None in of:
            return (of[None],)
        return tuple(of.values()) if expert is None else (of[expert],)


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
