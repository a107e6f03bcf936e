"""Training of scales: the model that is trained is the stored one, and what is kept is what was measured."""

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from space.cost import module_bytes
from space.errors import CalibrationError
from space.level import Level
from space.plan import Plan
from tests.workers.tiny_models import Bench, TinyKind, make_bench, make_deep, make_wide, text_request
from workers.evaluate.teacher import read_teacher
from workers.levels.level_store import LevelStore
from workers.models.model_files import REPLACED, read_headers
from workers.recover.distill import Course, Distillation, Learned, TaughtText
from workers.recover.recovery import Fitted, Lesson, Text, Values, recover_if_better
from workers.recover.scale_training import SCALES
from workers.recover.train_point import fit_by_training
from workers.recover.trainable_model import TrainableModel, scaled_weight, trainable_model
from workers.recover.training_text import SHARED_RUN, more_text, training_text
from workers.tasks import Evaluate, Teach
from workers.text.text_sources import STDLIB
from workers.text.tokens import SPLITS, TokenSet
from workers.worker import Worker

TEXTS = ("b2-gch-t-h", "b3-g32", "b2-gch-t-h-r2", "b3-gch-s0.5", "b2-g16-h", "dense", "b3-gch-t", "b2-g32-r1", "b4-g32")
SHORT = Course(steps=12, batch=4, learning_rate=5e-3, warmup=2, judge_every=4)


def _text(at: Bench) -> Text:
    """Return the bench's own splits to learn from."""
    for split in SPLITS:
        at.worker.run(Teach(at.tokens, split))
    return Text(at.tokens, lambda split: at.worker.teacher_path(at.tokens, split))


def _lesson(at: Bench, plan: Plan, seed: int = 0) -> Lesson:
    start = Values(at.tokens, at.workspace.model_folder)
    return Lesson(at.workspace, plan, start, text=lambda: _text(at), seed=seed)


def _fit(at: Bench, plan: Plan, course: Course = SHORT, seed: int = 0) -> Fitted:
    return fit_by_training(_lesson(at, plan, seed), "scales", course, scaled_weight, 1)


def _model(at: Bench, plan: Plan) -> TrainableModel:
    return trainable_model(at.workspace, plan, at.store)


def _store(at: Bench, tokens: TokenSet) -> LevelStore:
    return replace(at.store, calibration_digest=tokens.of("calibration"))


def _same_logits(at: Bench, plan: Plan) -> None:
    ids = at.tokens.load("held_out")[:3]
    model = _model(at, plan)
    with torch.no_grad():
        found = model.family.answers(model.model(**model.family.inputs(ids)))
    torch.testing.assert_close(found, next(at.worker.logits(plan, at.tokens, [ids])), atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["tied", "untied", "opt"])
def test_the_trained_model_is_the_stored_one(bench: Callable[[TinyKind], Bench], kind: TinyKind) -> None:
    """Before any step its logits are those of the plan's levels, of every coding, group, mask, rotation and rank."""
    at = bench(kind)
    _same_logits(at, at.plan(TEXTS))


def test_tiles_are_trained_too(tmp_path: Path, text_file: Path) -> None:
    """Levels of EXL3 have a scale for each output and each input."""
    at = make_bench(make_wide(tmp_path / "wide"), tmp_path / "cache", text_file)
    plan = at.dense_plan().replace({"model.layers.0.self_attn.q_proj": Level(2, coding="exl3")})
    at.build(plan, "exl3")
    _same_logits(at, plan)
    model = _model(at, plan)
    assert {n.rpartition(".")[0].rpartition(".")[2] for n in model.trained() if n.startswith("levels")} == {
        "svh",
        "suh",
    }


def test_same_bytes_and_the_kl_that_was_measured(bench: Callable[[TinyKind], Bench]) -> None:
    """What is stored has the tensors of the levels that it replaces, and the KL that training saw on selection text."""
    at = bench("untied")
    plan = at.plan(TEXTS)
    found = _fit(at, plan)
    before, after = found.figures["selection_kl"]
    assert found.failure is None
    assert after < before
    for module in at.workspace.inventory.modules:
        if (level := plan[module.name]).is_dense:
            continue
        old = at.store.tensors(module.name, level)
        new = _store(at, found.values.tokens).tensors(module.name, level)
        assert {n: (t.shape, t.dtype) for n, t in old.items()} == {n: (t.shape, t.dtype) for n, t in new.items()}
        assert sum(t.nbytes for t in new.values()) == module_bytes(module, level)
        assert new["qweight"].equal(old["qweight"])
        assert not new["scale"].equal(old["scale"])
    worker = Worker(replace(at.workspace, model_folder=found.values.model_folder))
    measured = worker.run(Evaluate(found.values.tokens, plan, "search")).kl_divergence
    assert measured == pytest.approx(after, rel=1e-3)
    dense, stored = read_headers(at.folder), read_headers(Path(found.values.model_folder))
    assert {n: t.info for n, t in dense.items()} == {n: t.info for n, t in stored.items()}
    changed = {name for name, tensor in stored.items() if tensor.file.name == REPLACED}
    assert changed == {name for name in dense if "norm" in name}
    assert _fit(at, plan).values == found.values


def test_it_ends_in_the_same_weights_if_stopped(bench: Callable[[TinyKind], Bench], tmp_path: Path) -> None:
    """A training that is stopped after any step and goes on from its state is the one that was never stopped."""
    at = bench("untied")
    plan, text = at.plan(TEXTS), _text(at)
    train_on, select = (TaughtText(text.tokens.load(s), read_teacher(text.answers(s))) for s in SPLITS[:2])
    course = replace(SHORT, checkpoint_seconds=0.0)

    def train(path: Path, stops: list[int]) -> tuple[Learned, dict[str, torch.Tensor]]:
        model, steps = _model(at, plan), 0

        def look() -> None:
            nonlocal steps
            steps += 1
            if stops and steps == stops[0]:
                stops.pop(0)
                raise InterruptedError

        try:
            learned = Distillation(model, train_on, select, course, path, look).run()
        except InterruptedError:
            return train(path, stops)
        return learned, {name: value.detach() for name, value in model.trained().items()}

    (whole, wanted), (broken, found) = train(tmp_path / "a", []), train(tmp_path / "b", [3, 1, 4])
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    assert (whole.steps, whole.kept_step) == (broken.steps, broken.kept_step)
    assert [j.selection_kl for j in whole.judged] == [j.selection_kl for j in broken.judged]
    (tmp_path / "b").write_bytes(b"damaged")
    assert train(tmp_path / "b", [])[0].kept_step == whole.kept_step


def test_what_goes_wrong_changes_nothing(bench: Callable[[TinyKind], Bench]) -> None:
    """A learning rate that blows the model up: the run says that it diverged, and the values stay."""
    at = bench("untied")
    plan = at.plan(TEXTS)
    found = _fit(at, plan, replace(SHORT, learning_rate=3.0))
    assert found.failure == "the training diverged"
    assert found.figures["diverged"]
    assert found.values == Values(at.tokens, at.workspace.model_folder)
    broken = replace(SCALES, fit=lambda _: found)
    assert not recover_if_better(broken, _lesson(at, plan)).kept


def test_text_of_its_own(bench: Callable[[TinyKind], Bench], text_file: Path) -> None:
    """Sequences that held-out text shares are left out, and so is all of it where nothing else is left."""
    at = bench("untied")
    own = training_text(at.workspace, at.tokens, text_request(text_file), 40, is_own=False)
    train, held_out = own.tokens.load("calibration"), at.tokens.load("held_out")
    assert len(train) > len(at.tokens.load("calibration"))
    rows = {tuple(row) for row in held_out.tolist()} | {tuple(row) for row in at.tokens.load("search").tolist()}
    assert held_out.shape[1] == SHARED_RUN
    assert not rows & {tuple(row) for row in train.tolist()}
    assert own.answers("calibration").exists()
    assert own.answers("search").exists()
    same = replace(text_request(text_file), num_calibration=8)
    sampled = training_text(at.workspace, at.tokens, replace(same, source=None, seed=7), 12, is_own=True)
    assert len(sampled.tokens.load("calibration")) == 12
    few = replace(text_request(text_file), num_calibration=3)
    with pytest.raises(CalibrationError, match="8 are needed"):
        training_text(at.workspace, at.tokens, few, 3, is_own=True)


def test_the_standard_library_gives_what_it_has(bench: Callable[[TinyKind], Bench], text_file: Path) -> None:
    """Where it holds less than is asked for, more than the job itself had."""
    at = bench("untied")
    request = replace(text_request(text_file), source=STDLIB, sequence_length=2048, num_calibration=8)
    made = more_text(Worker(at.workspace), request, 1000)
    assert 30 < len(made.load("calibration")) < 1000


class _Live(TorchDispatchMode):
    """Counts the bytes of tensors that live at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple | list) else (made,):
            if isinstance(tensor, torch.Tensor) and (storage := tensor.untyped_storage()).data_ptr() not in self._seen:
                self._count(storage)
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage.data_ptr(), storage.nbytes()
        self._seen.add(place)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._seen.discard(place)
        self.now -= size


def test_blocks_that_are_run_again_take_less_memory(tmp_path: Path, text_file: Path) -> None:
    """Of twelve blocks, at least 40 % less at the peak, with the same gradients."""
    at = make_bench(make_deep(tmp_path / "deep", 12), tmp_path / "cache", text_file)
    plan, text = at.dense_plan().replace({"model.layers.3.mlp.up_proj": Level(4, 32)}), _text(at)
    at.build(plan)
    taught = TaughtText(text.tokens.load("calibration"), read_teacher(text.answers("calibration")))
    batch, peaks, gradients = taught.rows(torch.arange(8), "cpu"), [], []
    for again in (False, True):
        model = _model(at, plan)
        if again:
            model.recompute_blocks()
        with _Live() as live:
            model.kl(*batch).backward()
        peaks.append(live.most)
        gradients.append({name: value.grad for name, value in model.trained().items()})
    assert peaks[1] < 0.6 * peaks[0]
    assert len(gradients[0]) > 24
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_what_is_trained_for(bench: Callable[[TinyKind], Bench]) -> None:
    """The text's own tokens count by their weight, and a temperature does what its formula says."""
    at = bench("untied")
    plan, text = at.plan(TEXTS), _text(at)
    taught = TaughtText(text.tokens.load("search"), read_teacher(text.answers("search")))
    batch, answers = taught.rows(torch.arange(2), "cpu")
    model = _model(at, plan)
    with torch.no_grad():
        logits = model.family.answers(model.model(**model.family.inputs(batch)))
        dense = next(at.worker.logits(at.dense_plan(), at.tokens, [batch]))
        assert isinstance(batch, torch.Tensor)
        wrong = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())
        kl, both = model.kl(batch, answers), model.loss(batch, answers, hard_labels=0.5)
        torch.testing.assert_close(both, kl + 0.5 * wrong, atol=1e-4, rtol=1e-4)
        p, q = (part[:, :-1].div(3).log_softmax(-1) for part in (dense, logits))
        softened = 9 * (p.exp() * (p - q)).sum(-1).mean()
        torch.testing.assert_close(model.loss(batch, answers, 3.0), softened, atol=1e-4, rtol=1e-3)
