"""Answers of the dense model over a large vocabulary: the likeliest tokens and all others together."""

import pytest
import torch
from torch import Tensor

from workers.evaluate import teacher
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import Teacher, answers, merge
from workers.families.kinds.causal_decoder import CAUSAL_DECODER

TOKENS = torch.randint(0, 50, (3, 9), generator=torch.Generator().manual_seed(1))


def _log_p(seed: int, scale: float) -> Tensor:
    """Return (3, 8, 50) log-probabilities."""
    return (scale * torch.randn(3, 8, 50, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def _kl(dense: Tensor, now: Tensor) -> list[float]:
    logits = torch.cat([now, now[:, -1:]], 1)
    teacher_ = Teacher(**answers(dense, TOKENS[:, 1:]))
    return sequence_quality(iter([logits]), [TOKENS], teacher_, CAUSAL_DECODER.loss)[0]


def test_merging_lowers_kl_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole answers give torch's KL; merged ones a little less, and the less the more tokens are kept."""
    dense, now = _log_p(2, 3.0), _log_p(3, 3.0)
    expected = torch.nn.functional.kl_div(now, dense, reduction="none", log_target=True).sum(-1).mean(-1)
    assert _kl(dense, now) == pytest.approx(expected.tolist(), rel=1e-5)
    monkeypatch.setattr(teacher, "WHOLE_VOCABULARY", 49)
    lost = []
    for kept in (5, 20, 40):
        monkeypatch.setattr(teacher, "NUM_LIKELIEST", kept)
        lost.append(1 - sum(_kl(dense, now)) / float(expected.sum()))
    assert lost == sorted(lost, reverse=True)
    assert 0 < lost[-1] < 0.01
    assert _kl(dense, dense) == pytest.approx([0, 0, 0], abs=1e-5)


def test_events_are_a_distribution() -> None:
    """Kept tokens and the others together have all the probability, even where nothing is left for the others."""
    log_q = _log_p(4, 1.0)
    log_q[0, 0] = torch.cat([torch.zeros(1), torch.full((49,), -1e4)])
    events = merge(log_q, log_q.topk(7).indices.int())
    assert events.shape == (3, 8, 8)
    assert events.exp().sum(-1).sub(1).abs().max() < 1e-5
    assert torch.isfinite(events).all()
