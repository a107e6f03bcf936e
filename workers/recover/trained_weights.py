"""Weights of stored levels as functions of what is trained in them, for torch's parametrizations; codes stay.

A trained tensor is its start plus a change in its own units, rounded to the type that it is stored in: what is measured
while training is what will be stored, and one learning rate suits scales, norms and biases alike. Gradients pass the
rounding as if it were not there.

Shape legend: O out_features, I in_features, G groups, R rank.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from space.level import Level
from workers.kernels.kernel import Tensors
from workers.kernels.kernel_table import KERNELS
from workers.kernels.rotation import rotate, rotate_back
from workers.kernels.unpack import column_scale


class Trained(nn.Module):
    """One stored tensor that is trained."""

    start: Tensor
    unit: Tensor

    def __init__(self, stored: Tensor, *, relative: bool) -> None:
        """Begin with what is stored; a `relative` change is a share of each value, another one of their size."""
        super().__init__()
        self.dtype = stored.dtype
        start = stored.float()
        size = start.square().mean().sqrt()
        unit = start if relative else (size if size > 0 else torch.ones_like(size))
        self.register_buffer("start", start.clone())
        self.register_buffer("unit", unit.clone())
        self.change = nn.Parameter(torch.zeros_like(start))

    def forward(self, _: Tensor | None = None) -> Tensor:
        """Return the float32 values as they would be stored."""
        exact = self.start + self.unit * self.change
        return exact + (exact.detach().to(self.dtype).float() - exact.detach())

    def stored(self) -> Tensor:
        """Return the values in the type that they are stored in."""
        with torch.no_grad():
            return (self.start + self.unit * self.change).to(self.dtype)


class _RotatedBack(torch.autograd.Function):
    @staticmethod
    def forward(_: Any, weight: Tensor) -> Tensor:
        return rotate_back(weight)

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return rotate(gradients[0])


class ScaledWeight(nn.Module):
    """Values of a column coding times trained scales, and a correction whose factors have trained sizes."""

    values: Tensor
    left: Tensor
    right: Tensor

    def __init__(self, tensors: Tensors, level: Level, in_features: int, *, turns_early: bool = True) -> None:
        """Unpack the values; where a row has one scale they are turned back here, once, if they may be."""
        super().__init__()
        self._level, self._tensors = level, dict(tensors)
        values = KERNELS[level.coding].values(tensors, level, in_features, None)
        turned = level.rotated and level.group_size is None and turns_early
        self._turns = level.rotated and not turned
        self.register_buffer("values", rotate_back(values) if turned else values, persistent=False)
        self.scale = Trained(tensors["scale"], relative=True)
        self.factor_scale = None
        if level.rank:
            right = tensors["right"].float()
            self.register_buffer("left", tensors["left"].float(), persistent=False)
            self.register_buffer("right", rotate_back(right) if turned else right, persistent=False)
            self.factor_scale = Trained(tensors["factor_scale"], relative=True)

    def forward(self, _: Tensor | None = None) -> Tensor:
        """Return the (O, I) weight."""
        return self.scaled(self.values)

    def scaled(self, values: Tensor) -> Tensor:
        """Return the (O, I) weight of values before scaling."""
        rows, columns = values.shape
        scale, group = self.scale(), self._level.group_size
        if group is not None and columns % group == 0:
            weight = (values.view(rows, -1, group) * scale.unsqueeze(-1)).view(rows, columns)
        else:
            weight = values * column_scale(scale, self._level, columns)
        if self.factor_scale is not None:
            left, right = self.factors()
            weight = weight + (left * self.factor_scale()) @ right
        found: Tensor = _RotatedBack.apply(weight) if self._turns else weight  # type: ignore[no-untyped-call]
        return found

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return the (O, R) and (R, I) factors of the correction before their sizes."""
        return self.left, self.right

    def stored(self) -> dict[str, Tensor]:
        """Return the level's tensors."""
        changed = {"scale": self.scale.stored()}
        if self.factor_scale is not None:
            changed["factor_scale"] = self.factor_scale.stored()
        return self._tensors | changed


class TiledWeight(nn.Module):
    """Turned tiles of EXL3 between two trained scales, of outputs and of inputs."""

    values: Tensor

    def __init__(self, tensors: Tensors, level: Level, in_features: int) -> None:
        """Unpack the tiles without their scales."""
        super().__init__()
        self._tensors = dict(tensors)
        plain = {**tensors, **{name: torch.ones_like(tensors[name]) for name in ("svh", "suh")}}
        self.register_buffer("values", KERNELS[level.coding].values(plain, level, in_features, None), persistent=False)
        self.svh, self.suh = (Trained(tensors[name], relative=True) for name in ("svh", "suh"))

    def forward(self, _: Tensor | None = None) -> Tensor:
        """Return the (O, I) weight."""
        weight: Tensor = self.svh().unsqueeze(1) * self.values * self.suh()
        return weight

    def stored(self) -> dict[str, Tensor]:
        """Return the level's tensors."""
        return self._tensors | {"svh": self.svh.stored(), "suh": self.suh.stored()}


TRAINED_WEIGHTS: dict[str, Callable[[Tensors, Level, int], Any]] = {
    "integer": ScaledWeight,
    "float8": ScaledWeight,
    "trellis": ScaledWeight,
    "exl3": TiledWeight,
}
"""coding -> the weight of its levels with trained scales; those that lie inside blocks, as ggml's do, stay"""
