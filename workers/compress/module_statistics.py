"""What is known of how a module is used, as one value: builders say which parts they need.

Shape legend: O out_features, I in_features.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

Need = Literal["hessian", "output_factor"]
"""A part of the statistics, by its field; the Hessian is there for every builder."""
Dampings = Mapping[int, float | None]
"""bits -> what the diagonal of an output factor gets more, as a share of its mean; None: rounded without the factor"""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a module is used on the calibration text.

    Attributes:
        hessian: (I, I) sum of x xᵀ over its inputs x.
        output_factor: (O, O) sum of g gᵀ over the gradients g at its outputs; None where it is not needed or not known.
        dampings: of the output factor, for some bit-widths; others take that of the next fewer bits, or of the fewest.

    """

    hessian: Tensor
    output_factor: Tensor | None = None
    dampings: Dampings = field(default_factory=dict)

    def to(self, device: torch.device | str) -> "Statistics":
        """Return the same on a device."""
        factor = self.output_factor
        moved = None if factor is None else factor.to(device)
        return replace(self, hessian=self.hessian.to(device), output_factor=moved)

    def rows(self, start: int, stop: int) -> "Statistics":
        """Return the statistics of some rows of the weight."""
        factor = self.output_factor
        return self if factor is None else replace(self, output_factor=factor[start:stop, start:stop])

    def damping(self, bits: int) -> float | None:
        """Return the damping of the output factor for values of so many bits; None: they are rounded without it."""
        if self.output_factor is None or not self.dampings:
            return None
        return self.dampings[max((known for known in self.dampings if known <= bits), default=min(self.dampings))]

    def output_metric(self, damping: float | None) -> Tensor | None:
        """Return the (O, O) factor of mean diagonal one, damped, or None where rows do not know of each other."""
        if damping is None or self.output_factor is None:
            return None
        mean = self.output_factor.diagonal().mean()
        if mean <= 0:
            return None
        identity = torch.eye(len(self.output_factor), device=self.output_factor.device)
        return self.output_factor / mean + identity * damping
