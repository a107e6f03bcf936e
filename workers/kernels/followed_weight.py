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
        plain, name = tuple(_plain(value) for value in args), getattr(func, "__name__", "")
        weight = next((value for value in args if isinstance(value, FollowedWeight)), None)
        is_product = weight is not None and name in _PRODUCTS
        other, place = _sides(name, args, weight) if weight is not None and is_product else (0, 0)
        if is_product and weight is not None and weight.given is not None:
            plain = _with_inputs(plain, other, place, weight.given)
        with torch._C.DisableTorchFunctionSubclass():  # noqa: SLF001 (as torch's own subclasses do)
            out = func(*plain, **{name: _plain(value) for name, value in (kwargs or {}).items()})
        if weight is None:
            return out
        if is_product:
            told, inputs = weight.told, plain[other]
            return out if told is None else _told(inputs, out, told, weight.expert, is_left=other < place)
        if name in _PATCHES and weight.told is not None:
            instead = weight.told(_patches(plain[0], weight.shape[2:]), out.movedim(1, -1), weight.expert)
            return out if instead is None else instead.movedim(-1, 1)
        if name in _VIEWS and isinstance(out, Tensor) and out.ndim > 1:
            expert = weight.expert if name != "__getitem__" else _chosen(weight, args[1])
            return follow(out, weight.told, weight.given, expert)
        return out


def _chosen(weight: FollowedWeight, index: Any) -> int | None:
    """Return which expert is taken of a stack."""
    if weight.ndim != _STACKED:
        return weight.expert
    first = index[0] if isinstance(index, tuple) else index
    is_one = isinstance(first, int) or (isinstance(first, Tensor) and first.ndim == 0 and not first.is_floating_point())
    return int(first) % weight.shape[0] if is_one else weight.expert


def _sides(name: str, args: tuple[Any, ...], weight: FollowedWeight) -> tuple[int, int]:
    """Return the places of the other factor of a product, and of the weight, among its arguments."""
    first = 1 if name in ("addmm", "baddbmm") else 0
    place = next(i for i, value in enumerate(args) if value is weight)
    return (first, place) if place == first + 1 else (first + 1, place)


def _with_inputs(args: tuple[Any, ...], other: int, place: int, given: Given) -> tuple[Any, ...]:
    """Return the arguments of a product with its inputs, what is summed over last, replaced."""
    inputs = args[other]
    if other < place:
        return *args[:other], given(inputs), *args[other + 1 :]
    return *args[:other], given(inputs.transpose(-1, -2)).transpose(-1, -2), *args[other + 1 :]


def _told(inputs: Tensor, out: Tensor, told: Told, expert: int | None, *, is_left: bool) -> Tensor:
    """Tell the inputs of a product, what is summed over last; return its output, or what stands for it."""
    if is_left:
        instead = told(inputs, out, expert)
        return out if instead is None else instead
    if inputs.ndim > 1:
        instead = told(inputs.transpose(-1, -2), out.transpose(-1, -2), expert)
        return out if instead is None else instead.transpose(-1, -2)
    return out


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
