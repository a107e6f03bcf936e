"""Integers that are trained, of weights or of low-rank factors: latent values in steps, rounded there, not back.

A latent value begins as near to the dense weight as its stored code allows: the first forward is the stored model's,
and a code that was rounded away from its weight is the first to move. Pruned places stay zero.

Shape legend: O out_features, I in_features, R rank.
"""

import torch
from torch import Tensor

from space.level import Level
from workers.compress.packing import Codes, pack
from workers.kernels.bit_streams import unpack_mask
from workers.kernels.kernel import Tensors
from workers.kernels.rotation import rotate
from workers.kernels.unpack import column_scale
from workers.recover.trained_weights import ScaledWeight

_INSIDE = 0.45  # of a step: how far from its code a latent value may begin
_MOST_OF_FACTORS = 127
_PACE = 2.0  # of the size of a weight's codes, which a change is in units of


class LatentWeight(ScaledWeight):
    """Trained codes times trained scales, and a correction whose factors have trained sizes."""

    begin: Tensor
    kept: Tensor | None

    def __init__(self, tensors: Tensors, level: Level, dense: Tensor) -> None:
        """Begin at the stored codes of the (O, I) dense weight."""
        super().__init__(tensors, level, dense.shape[1], turns_early=False)
        assert level.bits is not None  # noqa: S101 (dense levels are never packed)
        self._least, self._most = -(2 ** (level.bits - 1)), 2 ** (level.bits - 1) - 1
        codes, self.values = self.values, torch.empty(0)
        target = rotate(dense) if level.rotated else dense
        if level.rank:
            target = target - (self.left * tensors["factor_scale"]) @ self.right
        scale = column_scale(tensors["scale"], level, dense.shape[1])
        aim = torch.where(scale == 0, codes, target / scale) - codes
        self.register_buffer("begin", codes + aim.clamp(-_INSIDE, _INSIDE), persistent=False)
        mask = unpack_mask(tensors["mask"], level, dense.shape[1]) if "mask" in tensors else None
        self.register_buffer("kept", mask, persistent=False)
        self._pace = _PACE * float(codes.square().mean().sqrt())
        self.moved = torch.nn.Parameter(torch.zeros_like(codes))

    def codes(self) -> Tensor:
        """Return the (O, I) codes, whose gradient is that of the latent values."""
        latent = (self.begin + self._pace * self.moved).clamp(self._least - _INSIDE, self._most + _INSIDE)
        codes = rounded(latent)
        return codes if self.kept is None else codes * self.kept

    def forward(self, _: Tensor | None = None) -> Tensor:
        """Return the (O, I) weight."""
        return self.scaled(self.codes())

    def stored(self) -> dict[str, Tensor]:
        """Return the level's tensors, encoded again on the same grid."""
        scaled = super().stored()
        with torch.no_grad():
            values = self.codes().to(torch.int16)
        parts = {name: scaled.get(name) for name in ("left", "right", "factor_scale")}
        return pack(Codes(values, scaled["scale"], self.kept, **parts), self._level)


class FactorWeight(ScaledWeight):
    """Fixed values times trained scales, and a correction whose 8-bit factors are trained with their sizes."""

    def __init__(self, tensors: Tensors, level: Level, in_features: int) -> None:
        """Begin at the stored factors."""
        super().__init__(tensors, level, in_features, turns_early=False)
        self._paces = [_PACE * float(factor.square().mean().sqrt()) for factor in (self.left, self.right)]
        self.left_moved = torch.nn.Parameter(torch.zeros_like(self.left))
        self.right_moved = torch.nn.Parameter(torch.zeros_like(self.right))

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return the (O, R) and (R, I) factors, whose gradients are those of latent values."""
        left = (self.left + self._paces[0] * self.left_moved).clamp(-_MOST_OF_FACTORS, _MOST_OF_FACTORS)
        right = (self.right + self._paces[1] * self.right_moved).clamp(-_MOST_OF_FACTORS, _MOST_OF_FACTORS)
        return rounded(left), rounded(right)

    def stored(self) -> dict[str, Tensor]:
        """Return the level's tensors, its factors in 8 bits again."""
        with torch.no_grad():
            left, right = (factor.to(torch.int8).contiguous() for factor in self.factors())
        return super().stored() | {"left": left, "right": right}


def rounded(latent: Tensor) -> Tensor:
    """Return whole numbers, through which gradients pass as if they were not rounded."""
    return latent + (latent.detach().round() - latent.detach())
