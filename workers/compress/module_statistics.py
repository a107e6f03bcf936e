"""What is known of how a module is used, as one value: builders say which parts they need.

Shape legend: O out_features, I in_features.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Need = Literal["hessian", "output_factor"]
"""A part of the statistics, by its field; the Hessian is there for every builder."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """How a module is used on the calibration text.

    Attributes:
        hessian: (I, I) sum of x xᵀ over its inputs x.
        output_factor: (O, O) sum of g gᵀ over the gradients g at its outputs; None where it is not needed or not known.

    """

    hessian: Tensor
    output_factor: Tensor | None = None

    def to(self, device: torch.device | str) -> "Statistics":
        """Return the same on a device."""
        factor = self.output_factor
        return Statistics(self.hessian.to(device), None if factor is None else factor.to(device))

    def rows(self, count: int | slice) -> "Statistics":
        """Return the statistics of some rows of the weight."""
        kept = count if isinstance(count, slice) else slice(count)
        factor = self.output_factor
        return Statistics(self.hessian, None if factor is None else factor[kept, kept])
