"""Answers that are vectors: what is lost is one minus the cosine, and sketches and gradients fit to it."""

import torch
from torch.nn.functional import normalize

from workers.evaluate.quality import sequence_quality
from workers.evaluate.sketch import Sketcher
from workers.evaluate.taught_vectors import TaughtVectors, vector_answers


def test_the_loss_is_one_minus_the_cosine() -> None:
    """For each sample; half of the mean square of a sketch is near it."""
    generator = torch.Generator().manual_seed(0)
    dense = normalize(torch.randn(16, 1, 48, generator=generator), dim=-1)
    now = normalize(dense + 0.03 * torch.randn(16, 1, 48, generator=generator), dim=-1)
    teacher = TaughtVectors(**vector_answers(dense, torch.zeros(16, 1, dtype=torch.long)))
    sketcher = Sketcher()
    scored = torch.zeros(16, 1, dtype=torch.long)
    found, loss = sequence_quality(iter([now]), [scored], teacher, lambda out, _: (out, scored), 0, sketcher)
    cosine = (dense * now).sum(-1)[:, 0]
    assert torch.allclose(torch.tensor(found), 1 - cosine, atol=1e-6)
    assert loss == [0.0] * 16
    half = sketcher.result().float().square().mean() / 2
    assert abs(float(half) / (sum(found) / 16) - 1) < 0.4


def test_positions_that_are_not_scored_do_not_count() -> None:
    """Neither in the mean nor in the sketch, whose scale is that of the scored ones."""
    generator = torch.Generator().manual_seed(1)
    dense = normalize(torch.randn(1, 32, 24, generator=generator), dim=-1)
    now = normalize(dense + 0.05 * torch.randn(1, 32, 24, generator=generator), dim=-1)
    right = torch.zeros(1, 32, dtype=torch.long)
    right[:, 8:] = -100
    teacher, sketcher = TaughtVectors(**vector_answers(dense, right)), Sketcher()
    (found,), _ = sequence_quality(iter([now]), [right], teacher, lambda out, _: (out, right), 0, sketcher)
    assert abs(found - float((1 - (dense * now).sum(-1))[0, :8].mean())) < 1e-6
    sketch = sketcher.result().float().view(32, -1)
    assert sketch[8:].abs().max() == 0
    assert abs(float(sketch.square().mean()) / 2 / found - 1) < 0.6
