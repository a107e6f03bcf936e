"""How far the fast kernels of a loaded export stray from its plain path, which unpacks every weight exactly.

Shape legend: B sequences, T tokens, V classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from workers.kernels.key_values.remembering import in_own_type
from workers.runtime.packed_modules import packed_modules, use_fast_kernels

_SINGLE_TOKENS = 4


def fast_strays(model: Any, logits: Callable[[Any], Tensor], batch: Any) -> tuple[float, float] | None:
    """Return the largest difference of logits as a share of their range, and the mean KL in nats of plain to fast.

    Many tokens at once and single ones take other loops: both are looked at. None where no module is packed. Keys and
    values are in their own type meanwhile: in few bits, the least difference may move one of them by a whole step.

    Args:
        model: as loaded; it is left on its plain path.
        logits: what runs it: (B, T) token ids, or other inputs of its family -> (B, T, V).
        batch: inputs to run.

    """
    if not packed_modules(model):
        return None
    batches: list[Any] = [batch]
    if isinstance(batch, Tensor):
        batches += batch[:1, :_SINGLE_TOKENS].split(1, 1)
    found = []
    for fast in (False, True):
        use_fast_kernels(model, fast=fast)
        with torch.no_grad(), in_own_type(model):
            found.append([logits(some).float() for some in batches])
    use_fast_kernels(model, fast=False)
    share = kl = 0.0
    for plain, other in zip(*found, strict=True):
        share = max(share, float((plain - other).abs().max() / (plain.max() - plain.min()).clamp_min(1e-30)))
        ours, theirs = plain.double().log_softmax(-1), other.double().log_softmax(-1)
        kl = max(kl, float((ours.exp() * (ours - theirs)).sum(-1).mean()))
    return share, kl
