"""How a plan changes the model's answers, as a vector whose mean products are parts of the KL divergence.

To second order KL(p || q) = ½ Σ_e p_e (d_e - d̄)², with d = log q - log p and d̄ its mean under p. So with
s = √p (d - d̄) a plan's KL is ½|s|² per position, and where the changes of single modules add up in d, the KL of any
plan is half the square of the sum of their s: every pair of modules is known from single-module probes. s is kept as a
random projection (signs, Achlioptas 2003), another one for each of 16 positions in turn, so that its errors average
over the text. As d̄ = -KL, s is √p log q, minus what the teacher alone decides, plus √p KL: one product per evaluation.

Shape legend: B sequences, P scored positions, E events (tokens), K dimensions per position.
"""

from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

DIMENSIONS = 8
CYCLE = 16
_SEED = 7


@dataclass
class Sketcher:
    """Makes the sketch of one evaluation, a few positions at a time."""

    _parts: list[Tensor] = field(default_factory=list)

    def add(self, weighted_pe: Tensor, kl_p: Tensor, origin_pk: Tensor, direction_pk: Tensor) -> None:
        """Take the next positions: √p log q and the KL of a plan; the projections of √p log p and of √p."""
        self._parts.append(project(weighted_pe).sub_(origin_pk).addcmul_(direction_pk, kl_p[:, None]))

    def result(self) -> Tensor:
        """Return the (B * P * K,) float16 sketch of all positions: half of its mean square is near the KL."""
        return torch.cat([part.flatten() for part in self._parts]).half().cpu()


def project(vectors_pe: Tensor) -> Tensor:
    """Return (..., P, K) random projections; the first position is a sequence's first, or CYCLE times n behind it."""
    out = vectors_pe.new_empty((*vectors_pe.shape[:-1], DIMENSIONS))
    for turn, signs in enumerate(_signs_cek(vectors_pe.shape[-1]).to(vectors_pe)):
        out[..., turn::CYCLE, :] = vectors_pe[..., turn::CYCLE, :] @ signs
    return out


@cache
def _signs_cek(num_events: int) -> Tensor:
    """Return (16, E, K) signs."""
    generator = torch.Generator().manual_seed(_SEED)
    return 2.0 * torch.randint(0, 2, (CYCLE, num_events, DIMENSIONS), generator=generator) - 1.0
