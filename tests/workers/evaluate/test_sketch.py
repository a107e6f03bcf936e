"""Sketches: half of their mean square is near the KL divergence, and changes of single modules nearly add up."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from space.level import Level
from space.measurement import Measurement
from space.plan import Plan
from tests.workers.pool.executor_contract import ends
from tests.workers.tiny_models import VOCABULARY, Bench, TinyKind
from workers.evaluate.sketch import DIMENSIONS, Sketcher
from workers.evaluate.teacher import Teacher, answers
from workers.pool.executor import Executor, InlineExecutor
from workers.pool.ray_pool import RayPool
from workers.tasks import Evaluate, Teach
from workers.worker import Worker

Benches = Callable[[TinyKind], Bench]
UP, DOWN = "model.layers.0.mlp.up_proj", "model.layers.1.mlp.down_proj"


def _measure(at: Bench, plan: Plan, count: int | None = None) -> Measurement:
    found: Measurement = at.worker.run(Evaluate(at.tokens, plan, "search", count, sketch=True))
    return found


def _sketch(found: Measurement) -> np.ndarray:
    assert found.sketch is not None
    return found.sketch.astype(np.float64)


def _half_square(sketch: np.ndarray) -> float:
    return float(np.mean(sketch**2)) / 2


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_half_the_mean_square_is_the_kl(
    bench: Benches, kind: TinyKind, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Within two per cent for a plan that changes the answers little; the projection adds its noise to that."""
    at = bench(kind)
    plan = at.plan(["b6-g32"])
    found = _measure(at, plan)
    assert _half_square(_sketch(found)) == pytest.approx(found.kl_divergence, rel=0.08)
    exactly = lambda count, _device: count**0.5 * torch.eye(count).expand(16, -1, -1)  # noqa: E731
    monkeypatch.setattr("workers.evaluate.sketch._signs_cke", exactly)
    monkeypatch.setattr("workers.evaluate.sketch.DIMENSIONS", VOCABULARY)
    other = Worker(replace(at.workspace, cache_folder=str(tmp_path)))
    (tmp_path / "levels").symlink_to(at.store.folder)
    other.run(Teach(at.tokens, "search"))
    exact = _sketch(other.run(Evaluate(at.tokens, plan, "search", sketch=True)))
    assert _half_square(exact) == pytest.approx(found.kl_divergence, rel=0.02)
    for half, kl in zip(np.split(exact, 2), np.split(np.array(found.sequence_kl), 2), strict=True):
        assert _half_square(half) == pytest.approx(kl.mean(), rel=0.02)


def test_shape(bench: Benches) -> None:
    """So many numbers of two bytes for each scored position, the first sequences first."""
    at = bench("tied")
    plan = at.plan(["b4-g32"])
    whole, part = _measure(at, plan), _measure(at, plan, count=4)
    assert whole.sketch is not None
    assert part.sketch is not None
    assert whole.sketch.dtype == np.dtype("float16")
    assert whole.sketch.shape == (whole.num_tokens * DIMENSIONS,)
    assert np.array_equal(part.sketch, whole.sketch[: part.sketch.size])


def test_the_dense_model_has_no_sketch_to_speak_of(bench: Benches) -> None:
    """What changes nothing is near zero; a plan measured again, from its remembered blocks, is the same."""
    at = bench("tied")
    assert _half_square(_sketch(_measure(at, at.dense_plan()))) < 1e-5
    plan = at.plan(["b4-g32"])
    assert np.array_equal(_sketch(_measure(at, plan)), _sketch(_measure(at, plan)))


def test_changes_of_modules_add_up(bench: Benches) -> None:
    """Two modules together change the sketch as each alone does, nearly; so the KL of the pair is known."""
    at = bench("untied")
    base = at.plan(["b8-gch"])
    changes = {UP: Level(4, 32), DOWN: Level(4, 32)}
    both = base.replace(changes)
    at.build(both)
    origin = _sketch(_measure(at, base))
    one, other = (_sketch(_measure(at, base.replace({name: level}))) for name, level in changes.items())
    measured = _measure(at, both)
    predicted = one + other - origin
    error = _half_square(predicted - _sketch(measured))
    assert error < 0.03 * _half_square(_sketch(measured) - origin)
    assert _half_square(predicted) == pytest.approx(_half_square(_sketch(measured)), rel=0.05)
    assert _half_square(predicted) == pytest.approx(measured.kl_divergence, rel=0.15)  # with the projection's noise


def test_nothing_else_changes(bench: Benches) -> None:
    """No sketch unless asked; KL and perplexity are the same bit for bit with and without one."""
    at = bench("phi")
    plan = at.plan(["b3-g64"])
    asked, not_asked = _measure(at, plan), at.worker.run(Evaluate(at.tokens, plan, "search"))
    assert not_asked.sketch is None
    assert replace(asked, sketch=None, seconds=0.0, token_forwards=0.0) == replace(
        not_asked, seconds=0.0, token_forwards=0.0
    )


@pytest.mark.parametrize("text", ["b2-g64", "b3-gch-s0.5"])
def test_coarse_plans_stay_finite(bench: Benches, text: str) -> None:
    """Two bytes are enough however far a plan is off."""
    at = bench("tied")
    found = _measure(at, at.plan([text]))
    assert found.kl_divergence > 0.05
    assert np.isfinite(_sketch(found)).all()


def test_impossible_words_stay_finite() -> None:
    """A plan that takes all probability from what the dense model is sure of, and words that it rules out."""
    log_p = torch.tensor([[[0.0, -1e4, -1e4], [-0.7, -0.7, -1e4]]])
    log_q = torch.tensor([[-2000.0, -1.0, -1.0], [-1.0, -1.0, -1e4]])
    dense = Teacher(**answers(log_p, torch.zeros(1, 2, dtype=torch.int64))).sequence(0)
    sketcher = Sketcher()
    sketcher.add(dense.roots * log_q, torch.tensor([2000.0, 0.3]), dense.origin, dense.direction)
    assert torch.isfinite(sketcher.result()).all()


def _answers(executor: Executor, tasks: list[Evaluate]) -> list[np.ndarray]:
    for task in tasks:
        executor.submit(task)
    found = []
    for outcome in ends(executor, len(tasks)):
        assert isinstance(outcome.value, Measurement)
        found.append(_sketch(outcome.value))
    return found


def test_executors_agree(bench: Benches, ray_of_two: None) -> None:
    """A sketch crosses the wire whole, and is the same whoever makes it: neighbours are compared entry by entry."""
    at = bench("tied")
    base = at.plan(["b6-g32"])
    plan = base.replace({UP: Level(4, 32)})
    at.build(plan)
    tasks = [Evaluate(at.tokens, p, "search", 4, sketch=True) for p in (base, plan, base, plan)]
    inline, pool = InlineExecutor(at.workspace), RayPool(at.workspace, 2)
    try:
        here, there = _answers(inline, tasks), _answers(pool, tasks)
    finally:
        pool.close()
        inline.close()
    for one, other in zip(here, there, strict=True):
        assert np.array_equal(one, other)
