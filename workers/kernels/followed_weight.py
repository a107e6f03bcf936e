"""Weights that are followed through slices and views, for those that no linear layer of torch holds.

Whatever product such a weight ends in, of one expert's tokens or of all, its inputs can be told, or others put in their
place. Shape legend: E experts, I in_features, O out_features.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Told = Callable[[Tensor, Tensor, int | None], Tensor | None]
"""takes the (..., I) inputs and the (..., O) output of a product, and which expert of a stack it is; returns what to go
on with in the output's place. No expert: the parameter is no stack, or all of it is multiplied at once, (E, ..., I)"""
Given = Callable[[Tensor], Tensor]
"""(..., I) inputs -> what a product takes in their place"""
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


class FollowedWeight(Tensor):
    """A weight that is followed.

    Attributes:
        told: hears of its products.
        given: what they take in the place of their inputs.
        expert: which of a stack it is; None: no stack, or all of it.

    """

    told: Told | None
    given: Given | None
    expert: int | None

    @classmethod
    def __torch_function__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        weight = next((value for value in args if isinstance(value, FollowedWeight)), None)
        if weight is not None and name in _PRODUCTS:
            return _product(func, args, kwargs, weight)
        out = _called(func, args, kwargs)
        if weight is None:
            return out
        if name in _PATCHES and weight.told is not None:
            instead = weight.told(_patches(_plain(args[0]), weight.shape[2:]), out.movedim(1, -1), weight.expert)
            return out if instead is None else instead.movedim(-1, 1)
        if name in _VIEWS and isinstance(out, Tensor) and out.ndim > 1:
            expert = weight.expert if name != "__getitem__" else _chosen(weight, args[1])
            return follow(out, weight.told, weight.given, expert)
        return out


def _called(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None) -> Any:
    """Return what a function of torch gives for plain tensors."""
    with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 (as torch's own subclasses do)
        return func(*map(_plain, args), **{name: _plain(value) for name, value in (kwargs or {}).items()})


def _product(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any] | None, weight: FollowedWeight) -> Tensor:
    """Return a product with a weight; its inputs, what is summed over last, may be replaced and are told with it."""
    first = 1 if getattr(func, "__name__", "") in ("addmm", "baddbmm") else 0
    is_behind = args[first + 1] is weight
    other, values = first if is_behind else first + 1, list(args)

    def turned(tensor: Tensor) -> Tensor:
        return tensor if is_behind else tensor.transpose(-1, -2)

    if weight.given is not None:
        values[other] = turned(weight.given(turned(values[other])))
    out: Tensor = _called(func, values, kwargs)
    if weight.told is None or not (is_behind or values[other].ndim > 1):
        return out
    instead = weight.told(turned(values[other]), turned(out), weight.expert)
    return out if instead is None else turned(instead)


def _chosen(weight: FollowedWeight, index: Any) -> int | None:
    """Return which expert is taken of a stack."""
    if weight.ndim != _STACKED:
        return weight.expert
    first = index[0] if isinstance(index, tuple) else index
    is_one = isinstance(first, int) or (isinstance(first, Tensor) and first.ndim == 0 and not first.is_floating_point())
    return int(first) % weight.shape[0] if is_one else weight.expert


def _patches(inputs: Tensor, sides: Sequence[int]) -> Tensor:
    """Return the patches of (B, channels, *places) inputs: (B, *patches, I), as a kernel of such sides meets them."""
    for place, side in enumerate(sides, 2):
        inputs = inputs.unfold(place, side, side)
    return inputs.movedim(1, -1 - len(sides)).flatten(-1 - len(sides))


def _plain(value: Any) -> Any:
    if isinstance(value, FollowedWeight):
        return value.as_subclass(Tensor)
    return type(value)(map(_plain, value)) if type(value) in (tuple, list) else value


def follow(
    weight: Tensor, told: Told | None = None, given: Given | None = None, expert: int | None = None
) -> FollowedWeight:
    """Return a weight as one that is followed; see its attributes."""
    found = weight.detach().as_subclass(FollowedWeight)
    found.told, found.given, found.expert = told, given, expert
    return found


def put_followed(
    module: nn.Module, last: str, weight: Tensor, told: Told | None = None, given: Given | None = None
) -> None:
    """Put a followed weight in the place of a module's parameter."""
    module._parameters[last] = follow(weight, told, given)  # type: ignore[assignment]  # noqa: SLF001


def put_plain(module: nn.Module, last: str) -> None:
    """Put the weight that a module's followed one is of back in its place."""
    plain = module._parameters[last]  # noqa: SLF001
    assert plain is not None  # noqa: S101 (put there by `put_followed`)
    module._parameters[last] = nn.Parameter(plain.detach().as_subclass(Tensor), requires_grad=False)  # noqa: SLF001
