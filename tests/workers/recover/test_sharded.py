"""Processes that train together: what they end in is what one process ends in, however they share what they hold."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from space.errors import JobFailedError
from space.results.recovery_names import SHARDINGS
from tests.workers.tiny_models import Bench, TinyKind
from workers.recover.distill import Course, adam
from workers.recover.recovery import Values
from workers.recover.sharded.assignment import Assignment, distillation
from workers.recover.sharded.crew import ALONE
from workers.recover.sharded.training_together import train_together
from workers.recover.trainable_model import scaled_weight
from workers.recover.training_state import Judged
from workers.tasks import Teach
from workers.text.tokens import SPLITS

TEXTS = ("b2-gch-t-h", "b3-g32", "b2-gch-t-h-r2", "dense", "b3-gch-t")
COURSE = Course(steps=20, batch=4, learning_rate=5e-3, warmup=2, judge_every=10)
SGD = partial(torch.optim.SGD)


def _assignment(at: Bench, path: Path, *, sharding: str = "none", in_double: bool = False) -> Assignment:
    plan = at.plan(TEXTS)
    for split in SPLITS:
        at.worker.run(Teach(at.tokens, split))
    return Assignment(
        workspace=at.workspace,
        plan=plan,
        start=Values(at.tokens, at.workspace.model_folder),
        text=at.tokens,
        answers=(at.worker.teacher_path(at.tokens, "calibration"), at.worker.teacher_path(at.tokens, "search")),
        course=COURSE if in_double else replace(COURSE, learning_rate=0.3),
        make=scaled_weight,
        state_path=path,
        sharding=sharding,
        recomputes=False,
        meeting=path,
        make_optimizer=adam if in_double else SGD,
        in_double=in_double,
    )


def _same(one: Path, other: Path, tolerance: float) -> None:
    """Compare what is trained, at the end and at its best, and that it has moved."""
    wanted, found = load_file(one), load_file(other)
    assert wanted.keys() == found.keys()
    assert any(float(value.abs().max()) > 1e-3 for name, value in wanted.items() if name.startswith("now."))
    for name, value in wanted.items():
        if name.startswith(("now.", "best.")):
            assert float((found[name] - value).abs().max()) < tolerance, name


@pytest.mark.parametrize("sharding", [pytest.param(s, marks=[pytest.mark.slow] * (s != "zero-3")) for s in SHARDINGS])
def test_two_processes_end_as_one(bench: Callable[[TinyKind], Bench], tmp_path: Path, sharding: str) -> None:
    """In float64 with Adam within 1e-8, and their last state is gone on with by one process alone."""
    at, seen = bench("untied"), list[float]()
    alone = distillation(_assignment(at, tmp_path / "one", in_double=True), ALONE).run()
    together = _assignment(at, tmp_path / "two", sharding=sharding, in_double=True)
    peaks = train_together(together, 2, hear=lambda judged, *_: seen.append(judged.selection_kl))
    assert len(peaks) == 2
    assert seen == pytest.approx([judged.selection_kl for judged in alone.judged], rel=1e-9)
    _same(tmp_path / "one", tmp_path / "two", 1e-8)
    read = distillation(together, ALONE).run()
    assert (read.steps, read.kept_step) == (alone.steps, alone.kept_step)


@pytest.mark.slow
@pytest.mark.parametrize("sharding", SHARDINGS)
def test_in_float32(bench: Callable[[TinyKind], Bench], tmp_path: Path, sharding: str) -> None:
    """With plain SGD within 1e-5; stopped in the middle, they go on from what they had."""
    at = bench("untied")
    distillation(_assignment(at, tmp_path / "one"), ALONE).run()
    together = _assignment(at, tmp_path / "two", sharding=sharding)
    with pytest.raises(InterruptedError):
        train_together(replace(together, course=replace(together.course, checkpoint_seconds=0.0)), 2, hear=_stop_at_10)
    train_together(together, 2)
    _same(tmp_path / "one", tmp_path / "two", 1e-5)


def _stop_at_10(judged: Judged, *_: float) -> None:
    if judged.step == 10:
        raise InterruptedError


def _broken(*_: object) -> None:
    raise ArithmeticError("nothing can be made of it")


@pytest.mark.slow
def test_what_one_says_that_fails(bench: Callable[[TinyKind], Bench], tmp_path: Path) -> None:
    """The error of a process is told, and none is left."""
    together = replace(_assignment(bench("untied"), tmp_path / "two"), make=_broken)
    with pytest.raises(
        JobFailedError, match=r"A process of 2 that train ended with 1:(.|\n)*nothing can be made of it"
    ):
        train_together(together, 2)
