"""KL divergence and loss of a model's logits, per sequence.

A few positions are scored at a time, so that they stay in the processor's cache: four times as fast as a whole batch.
Shape legend: B sequences, T tokens, P scored positions, V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from workers.evaluate.sketch import CYCLE, Sketcher
from workers.evaluate.teacher import Teacher

_CACHED_VALUES = 2**19  # logits scored at a time: 2 MiB
_GPU_VALUES = 2**23  # the same on a GPU, which is slow to begin and needs no cache


Scored = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""a family's loss: (logits, tokens) -> (B, P, V) logits of the scored positions, (B, P) right classes"""


def sequence_quality(
    logits: Iterator[Tensor],
    batches: Sequence[Tensor],
    teacher: Teacher,
    scored: Scored,
    first: int = 0,
    sketcher: Sketcher | None = None,
) -> tuple[list[float], list[float]]:
    """Return KL(dense || now) and loss of each sequence, in nats per token.

    Args:
        logits: (B, T, V) for each batch.
        batches: (B, T) tokens: of the teacher's sequences from `first` on.
        teacher: the dense model's answers.
        scored: which logits count, and what is right there.
        first: index of the first sequence.
        sketcher: takes each batch, where a sketch is wanted.

    """
    kl: list[float] = []
    loss: list[float] = []
    for logits_btv, batch in zip(logits, batches, strict=True):
        for logits_pv, right_p in zip(*scored(logits_btv, batch.to(logits_btv.device)), strict=True):
            found = [_score(*part, sketcher) for part in _parts(logits_pv, right_p, teacher.sequence(first + len(kl)))]
            kl.append(float(torch.cat([kl_p for kl_p, _ in found]).double().mean()))
            loss.append(float(torch.cat([loss_p for _, loss_p in found]).double().mean()))
    return kl, loss


def _parts(logits_pv: Tensor, right_p: Tensor, teacher: Teacher) -> Iterator[tuple[Tensor, Tensor, Teacher]]:
    """Yield the logits, the right classes and the answers of as many positions as a processor's cache holds."""
    values = _CACHED_VALUES if logits_pv.device.type == "cpu" else _GPU_VALUES
    count = max(1, values // (CYCLE * logits_pv.shape[-1])) * CYCLE
    for begin in range(0, len(right_p), count):
        end = min(begin + count, len(right_p))
        yield logits_pv[begin:end], right_p[begin:end], teacher.positions(begin, end, logits_pv.device)


def _score(logits_pv: Tensor, right_p: Tensor, teacher: Teacher, sketcher: Sketcher | None) -> tuple[Tensor, Tensor]:
    log_q = logits_pv.float().log_softmax(-1)
    loss = -log_q.gather(-1, right_p[:, None]).squeeze(-1)
    weighted = teacher.events(log_q).mul_(teacher.roots)
    kl = teacher.negative_entropy - torch.linalg.vecdot(teacher.roots, weighted)
    if sketcher is not None:
        sketcher.add(weighted, kl, teacher.origin, teacher.direction)
    return kl, loss
