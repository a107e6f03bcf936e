"""KL divergence and loss of the model that a runner holds now, per sequence.

Shape legend: B sequences, P scored positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from workers.evaluate.sketch import Sketcher
from workers.evaluate.teacher import Teacher


def sequence_quality(
    logits: Iterator[Tensor],
    batches: Sequence[Tensor],
    teacher: Teacher,
    first: int = 0,
    sketcher: Sketcher | None = None,
) -> tuple[list[float], list[float]]:
    """Return KL(dense || now) and next-token loss of each sequence, in nats per token.

    Args:
        logits: (B, T, V) for each batch.
        batches: (B, T) tokens: of the teacher's sequences from `first` on.
        teacher: the dense model's answers.
        first: index of the first sequence.
        sketcher: takes each batch, where a sketch is wanted.

    """
    kl: list[float] = []
    loss: list[float] = []
    for logits_btv, batch in zip(logits, batches, strict=True):
        rows = slice(first + len(kl), first + len(kl) + len(batch))
        batch_kl, batch_loss = _score(logits_btv, batch, teacher, rows, sketcher)
        kl += batch_kl.tolist()
        loss += batch_loss.tolist()
    return kl, loss


def _score(
    logits_btv: Tensor, batch: Tensor, teacher: Teacher, rows: slice, sketcher: Sketcher | None
) -> tuple[Tensor, Tensor]:
    log_q = logits_btv[:, :-1].float().log_softmax(-1)
    p = teacher.probabilities[rows].to(log_q.device)
    kl = teacher.negative_entropy[rows].to(log_q.device) - torch.linalg.vecdot(p, log_q)
    loss = -log_q.gather(-1, batch[:, 1:, None].to(log_q.device)).squeeze(-1)
    if sketcher is not None:
        sketcher.add(p, log_q, kl)
    return kl.double().mean(-1), loss.double().mean(-1)
