"""Training of codes: the same model at the start, legal codes and the same masks at the end, and what was measured."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from space.level import parse_level
from space.recover_options import RECOVERY_NAMES
from tests.workers.tiny_models import Bench, TinyKind
from workers.kernels.unpack import unpack
from workers.recover.distill import Course
from workers.recover.latent_weights import FactorWeight, LatentWeight
from workers.recover.quantization_aware import latent_weight
from workers.recover.recovery import Lesson, Text, Values
from workers.recover.recovery_table import RECOVERIES
from workers.recover.restore import kept_weight
from workers.recover.train_point import fit_by_training
from workers.tasks import Evaluate, Teach
from workers.text.tokens import SPLITS
from workers.worker import Worker

COURSE = Course(steps=12, batch=4, learning_rate=2e-2, warmup=2, judge_every=4)
TEXTS = ("b2-g32", "b3-gch-s0.5", "b2-gch-h", "b4-g32-s2:4", "b2-g16-h", "b3-g32-r2", "b2-gch-t-h", "b3-g16-s0.5-r1")


def _lesson(at: Bench, texts: tuple[str, ...]) -> Lesson:
    for split in SPLITS:
        at.worker.run(Teach(at.tokens, split))
    text = Text(at.tokens, lambda split: at.worker.teacher_path(at.tokens, split))
    return Lesson(at.workspace, at.plan(texts), Values(at.tokens, at.workspace.model_folder), text=lambda: text)


@pytest.mark.parametrize("text", [t for t in TEXTS if "-t" not in t] + ["b8-gch", "b3-gch-h-r2"])
def test_it_begins_as_it_is_stored(bench: Callable[[TinyKind], Bench], text: str) -> None:
    """Untrained, its weight is the stored one and so are all of its bytes; every code has a gradient, no pruned one."""
    at, level = bench("untied"), parse_level(text)
    name = "model.layers.0.mlp.gate_proj"
    at.build(at.dense_plan().replace({name: level}))
    tensors, dense = at.store.tensors(name, level), at.worker.engine.dense_weight(name).clone()
    weight = LatentWeight(tensors, level, dense)
    torch.testing.assert_close(weight(), unpack(tensors, level, dense.shape[1]), atol=1e-5, rtol=1e-5)
    assert {n: t.tolist() for n, t in weight.stored().items()} == {n: t.tolist() for n, t in tensors.items()}
    (weight() * torch.randn(dense.shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert weight.moved.grad is not None
    share = float((weight.moved.grad != 0).float().mean())
    assert share > 0.8 * (1 - level.sparsity)
    assert share <= 1 - level.sparsity + 1e-6


@pytest.mark.parametrize(("make", "moves"), [(latent_weight, lambda _: True), (kept_weight, lambda v: v.sparsity > 0)])
def test_masks_stay_and_codes_move(
    bench: Callable[[TinyKind], Bench], make: Callable[..., object], moves: Callable[..., bool]
) -> None:
    """Codes of integers move where they may, masks and trellises stay, and the stored model is the trained one."""
    at = bench("untied")
    lesson = _lesson(at, TEXTS)
    found = fit_by_training(lesson, make.__name__, COURSE, make, 1)
    assert found.failure is None
    after = replace(at.store, calibration_digest=found.values.tokens.of("calibration"))
    for name, level in lesson.plan.levels:
        if level.is_dense:
            continue
        old, new = at.store.tensors(name, level), after.tensors(name, level)
        assert {n: (t.shape, t.dtype) for n, t in old.items()} == {n: (t.shape, t.dtype) for n, t in new.items()}
        assert new["qweight"].equal(old["qweight"]) != (level.coding == "integer" and moves(level)), level
        assert "mask" not in old or new["mask"].equal(old["mask"])
        shape = at.workspace.inventory.module(name).weight.shape
        codes = {part: tensor for part, tensor in new.items() if part not in ("left", "right", "factor_scale")}
        now = unpack(codes, replace(level, rank=0, rotated=False), shape[1])
        assert not level.sparsity or float((now == 0).float().mean()) >= level.sparsity
    worker = Worker(replace(at.workspace, model_folder=found.values.model_folder))
    measured = worker.run(Evaluate(found.values.tokens, lesson.plan, "search")).kl_divergence
    assert measured == pytest.approx(found.figures["selection_kl"][1], rel=1e-3)
    assert measured < found.figures["selection_kl"][0]


@pytest.mark.parametrize("text", ["b3-g32-r2", "b3-gch-h-r2", "b2-gch-t-h-r2"])
def test_corrections_are_trained_in_8_bits(bench: Callable[[TinyKind], Bench], text: str) -> None:
    """Untrained they are the stored ones, to the bit; a step moves factors, and codes and masks stay."""
    at, level = bench("untied"), parse_level(text)
    name = "model.layers.0.mlp.gate_proj"
    at.build(at.dense_plan().replace({name: level}))
    tensors, dense = at.store.tensors(name, level), at.worker.engine.dense_weight(name).clone()
    weight = FactorWeight(tensors, level, dense.shape[1])
    torch.testing.assert_close(weight(), unpack(tensors, level, dense.shape[1]), atol=1e-5, rtol=1e-5)
    assert {n: t.tolist() for n, t in weight.stored().items()} == {n: t.tolist() for n, t in tensors.items()}
    optimizer, first = torch.optim.Adam(weight.parameters(), lr=2e-2), float((weight() - dense).square().sum().detach())
    for _ in range(10):
        optimizer.zero_grad()
        (weight() - dense).square().sum().backward()
        optimizer.step()
    assert float((weight() - dense).square().sum().detach()) < first
    now = weight.stored()
    assert now["qweight"].equal(tensors["qweight"])
    assert not now["left"].equal(tensors["left"])
    assert {n: (t.shape, t.dtype) for n, t in now.items()} == {n: (t.shape, t.dtype) for n, t in tensors.items()}
    torch.testing.assert_close(weight(), unpack(now, level, dense.shape[1]), atol=1e-5, rtol=1e-5)


def test_names_are_those_that_commands_offer() -> None:
    """In the order in which they are tried."""
    assert tuple(RECOVERIES) == RECOVERY_NAMES
