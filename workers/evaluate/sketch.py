"""How a plan changes the model's answers, as a vector whose mean products are parts of the KL divergence.

To second order KL(p || q) = ½ Σ_v p_v (d_v - d̄)², with d = log q - log p and d̄ its mean under p. So with
s = √p (d - d̄) a plan's KL is ½|s|² per position, and where the changes of single modules add up in d, the KL of any
plan is half the square of the sum of their s: every pair of modules is known from single-module probes. s is kept as a
random projection (signs, Achlioptas 2003), another one for each of 16 positions in turn, so that its errors average
over the text.

Shape legend: B sequences, P scored positions, V vocabulary, K dimensions per position.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

DIMENSIONS = 8
_CYCLE = 16
_SEED = 7


@dataclass
class Sketcher:
    """Makes the sketch of one evaluation, batch by batch."""

    _signs: Tensor | None = None
    _parts: list[Tensor] = field(default_factory=list)

    def add(self, p_bpv: Tensor, log_q_bpv: Tensor, kl_bp: Tensor) -> None:
        """Take the next batch: the teacher's probabilities, the plan's log-probabilities, and their KL."""
        if self._signs is None:
            self._signs = _signs_cvk(log_q_bpv.shape[-1]).to(log_q_bpv)
        log_p = p_bpv.clamp_min(torch.finfo(p_bpv.dtype).tiny).log_()
        change = log_q_bpv.sub(log_p).add_(kl_bp[..., None])  # d̄ = -KL
        change.mul_(p_bpv.sqrt())
        projected = change.new_empty((*change.shape[:2], self._signs.shape[-1]))
        for turn, signs in enumerate(self._signs):
            projected[:, turn::_CYCLE] = change[:, turn::_CYCLE] @ signs
        self._parts.append(projected)

    def result(self) -> Tensor:
        """Return the (B * P * K,) float16 sketch of all batches taken: half of its mean square is near the KL."""
        return torch.cat([part.flatten() for part in self._parts]).half().cpu()


def _signs_cvk(vocabulary: int) -> Tensor:
    """Return (16, V, K) signs."""
    generator = torch.Generator().manual_seed(_SEED)
    return 2 * torch.randint(0, 2, (_CYCLE, vocabulary, DIMENSIONS), generator=generator) - 1
