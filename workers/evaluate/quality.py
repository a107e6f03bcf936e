"""KL divergence and loss of the model that a runner holds now, per sequence.

Shape legend: B sequences, P scored positions, V vocabulary.
"""

from collections.abc import Callable

from torch import Tensor

from workers.evaluate.sketch import Sketcher
from workers.evaluate.teacher import BATCH, Teacher

Forward = Callable[[int, Tensor], Tensor]
"""(batch index, (B, T) tokens) -> (B, T, V) logits"""


def sequence_quality(
    forward: Forward, tokens: Tensor, teacher: Teacher, first: int = 0, sketcher: Sketcher | None = None
) -> tuple[list[float], list[float]]:
    """Return KL(dense || now) and next-token loss of each sequence, in nats per token.

    Args:
        forward: runs the model on a batch.
        tokens: (N, T) sequences: N of the teacher's from `first` on.
        teacher: the dense model's answers.
        first: index of the first sequence.
        sketcher: takes each batch, where a sketch is wanted.

    """
    kl, loss = [], []
    for index, batch in enumerate(tokens.split(BATCH)):
        rows = slice(first + index * BATCH, first + index * BATCH + len(batch))
        batch_kl, batch_loss = _score(forward(index, batch), batch, teacher, rows, sketcher)
        kl += batch_kl.tolist()
        loss += batch_loss.tolist()
    return kl, loss


def _score(
    logits_btv: Tensor, batch: Tensor, teacher: Teacher, rows: slice, sketcher: Sketcher | None
) -> tuple[Tensor, Tensor]:
    log_q = logits_btv[:, :-1].float().log_softmax(-1)
    p = teacher.probabilities[rows].to(log_q.device)
    cross = (p.flatten(0, 1)[:, None] @ log_q.flatten(0, 1)[..., None]).view(p.shape[:2])
    kl = teacher.negative_entropy[rows].to(log_q.device) - cross
    loss = -log_q.gather(-1, batch[:, 1:, None].to(log_q.device)).squeeze(-1)
    if sketcher is not None:
        sketcher.add(p, log_q, kl)
    return kl.double().mean(-1), loss.double().mean(-1)
