"""KL divergence and loss of a model's logits, per sequence.

A few positions are scored at a time, so that they stay in the processor's cache: four times as fast as a whole batch.
Shape legend: B sequences, T tokens, P scored positions, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from workers.evaluate.sketch import CYCLE, Sketcher
from workers.evaluate.teacher import Taught, mean_of_scored
from workers.model_inputs import Samples

_CACHED_VALUES = 2**19  # logits scored at a time: 2 MiB
_GPU_VALUES = 2**23  # the same on a GPU, which is slow to begin and needs no cache


Scored = Callable[[Tensor, Any], tuple[Tensor, Tensor]]
"""a family's loss: (logits, samples) -> (B, P, V) logits of the scored positions, (B, P) right classes"""


def sequence_quality(
    logits: Iterator[Tensor],
    batches: Sequence[Samples],
    teacher: Taught,
    scored: Scored,
    first: int = 0,
    sketcher: Sketcher | None = None,
) -> tuple[list[float], list[float]]:
    """Return KL(dense || now) and loss of each sequence, in nats per token.

    Args:
        logits: (B, T, V) for each batch.
        batches: samples: of the teacher's sequences from `first` on.
        teacher: the dense model's answers.
        scored: which logits count, and what is right there.
        first: index of the first sequence.
        sketcher: takes each batch, where a sketch is wanted.

    """
    kl: list[float] = []
    loss: list[float] = []
    for logits_btv, batch in zip(logits, batches, strict=True):
        for logits_pv, right_p in zip(*scored(logits_btv, batch.to(str(logits_btv.device))), strict=True):
            part, weights_p = teacher.sequence(first + len(kl)), _sketch_weights(right_p)
            found = []
            for begin, end in _cuts(logits_pv):
                dense = part.positions(begin, end, logits_pv.device)
                weights = None if weights_p is None else weights_p[begin:end]
                found.append(dense.score(logits_pv[begin:end], right_p[begin:end], sketcher, weights))
            kl.append(float(mean_of_scored(torch.cat([kl_p for kl_p, _ in found]).double(), right_p)))
            loss.append(float(mean_of_scored(torch.cat([loss_p for _, loss_p in found]).double(), right_p)))
    return kl, loss


def _cuts(logits_pv: Tensor) -> Iterator[tuple[int, int]]:
    """Yield the begin and end of as many positions as a processor's cache holds."""
    values = _CACHED_VALUES if logits_pv.device.type == "cpu" else _GPU_VALUES
    count = max(1, values // (CYCLE * logits_pv.shape[-1])) * CYCLE
    for begin in range(0, len(logits_pv), count):
        yield begin, min(begin + count, len(logits_pv))


def _sketch_weights(right_p: Tensor) -> Tensor | None:
    """Return weights of positions in a sketch, so that its mean square is over those that are scored; None: all are."""
    scored_p = right_p >= 0
    if bool(scored_p.all()):
        return None
    return scored_p * (len(right_p) / scored_p.sum().clamp_min(1)).sqrt()
