"""A student's training: all of its weights, towards the answers that the whole model gives to the same text.

Answers are computed anew for every batch, so that no more text is on disk than its tokens.
Shape legend: B samples, P scored positions, V classes.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.digest import digest
from workers.evaluate.quality import sequence_quality
from workers.evaluate.taught_vectors import TaughtVectors, vector_answers
from workers.evaluate.teacher import Taught, Teacher, answers, read_teacher
from workers.families.family import Family
from workers.families.family_table import FAMILIES
from workers.families.load_modules import load_model
from workers.model_inputs import Samples
from workers.models.model_files import read_headers
from workers.recover.distill import Course, Distillation, Learned, Lessons, TaughtText
from workers.recover.student.cut_blocks import check_cut, cut, least_needed
from workers.recover.trainable_model import TrainableModel
from workers.recover.training_state import Judged
from workers.recover.training_text import unshared
from workers.tasks import BATCH, Teach, Workspace
from workers.text.text_sources import Split
from workers.text.tokens import TokenSet
from workers.worker import Worker

COURSE = Course(steps=4000, batch=8, learning_rate=1e-3, warmup=40, judge_every=50, patience=8)
"""its steps are those that its minutes allow, at most these"""
_CHOSEN_ON = 8  # samples
_JUDGED: tuple[Split, ...] = ("search", "held_out")
_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16}
_VERSION = 1  # raise it when the same wish makes other weights


@dataclass(frozen=True, slots=True)
class Trained:
    """A student and what is known of it.

    Attributes:
        model: of transformers, in the type that is computed in; its weights are the best ones on selection text, with
            the values that their files have.
        kept: the blocks of the whole model that it has.
        learned: what came of its training.
        sequence_kl, sequence_loss: of it on held-out text, by sequence, in nats per token.

    """

    model: Any
    kept: tuple[int, ...]
    learned: Learned
    sequence_kl: tuple[float, ...]
    sequence_loss: tuple[float, ...]

    @property
    def untrained_kl(self) -> float:
        """Return the KL on selection text of the cut model before its first step."""
        return self.learned.judged[0].selection_kl


@dataclass(frozen=True)
class AskedAnew(Lessons):
    """Samples whose answers a model gives when they are asked for; `TaughtText` has them from a file."""

    teacher: Any
    family: Family

    def rows(self, indices: Tensor, device: str) -> tuple[Samples, Taught]:
        """Return some samples and the answers to them."""
        batch = self.samples[indices].to(device)
        with torch.no_grad():
            logits = self.family.answers(self.teacher(**self.family.inputs(batch)))
            scored, right = self.family.loss(logits, batch)
            if self.family.question.answer == "vectors":
                return batch, TaughtVectors(**vector_answers(scored, right))
            return batch, Teacher(**answers(scored.float().log_softmax(-1), right))


def train_student(
    workspace: Workspace,
    tokens: TokenSet,
    keep: int,
    *,
    seed: int = 0,
    max_seconds: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
    look: Callable[[], None] = lambda: None,
) -> Trained:
    """Cut blocks out of a model and train what is left; killed, the same call goes on.

    Args:
        workspace: the whole model.
        tokens: text: to train on, to choose and select by, and held out.
        keep: blocks of the student.
        seed: of the order of the text.
        max_seconds: of computing; None: as long as the course takes.
        tell: hears how far it is.
        look: called after every step; what it raises ends the training.

    Raises:
        SpecError: the model cannot be cut so.

    """
    family, folder, device = FAMILIES[workspace.inventory.family], Path(workspace.model_folder), workspace.device
    whole, student = load_model(folder, device), load_model(folder, device)
    check_cut(str(folder), whole, family, keep)
    worker = Worker(workspace)
    tell("asking the whole model")
    for split in _JUDGED:
        worker.run(Teach(tokens, split))
    selection = TaughtText(tokens.load("search"), read_teacher(worker.teacher_path(tokens, "search")))
    tell(f"choosing {keep} of {len(family.stages(student)[0][1])} blocks")
    kept = least_needed(student, family, keep, lambda: _cost(student, family, selection, device))
    cut(student, family, kept)
    for parameter in student.parameters():
        parameter.requires_grad_(requires_grad=parameter.is_floating_point())
    course = replace(COURSE, seed=seed, max_seconds=max_seconds)
    key = digest([workspace.model_digest, keep, repr(course), _VERSION, *tokens.digests])

    def seen(judged: Judged, steps: int, seconds_left: float) -> None:
        tell(f"step {judged.step} of {steps}: KL {judged.selection_kl:.4f}, about {seconds_left / 60:.0f} min left")

    learned = Distillation(
        model=TrainableModel(student, family, {"student": student}, {}),
        train=AskedAnew(_own_text(tokens), whole, family),
        selection=selection,
        course=course,
        state_path=Path(workspace.cache_folder) / "students" / f"{key[:16]}.safetensors",
        look=look,
        watch=seen,
        device=device,
    ).run()
    _round_as_stored(student, folder)
    return Trained(student, kept, learned, *_held_out(student, family, worker, tokens, device))


def _own_text(tokens: TokenSet) -> Samples:
    """Return the text to train on, without what shares a run of tokens with text that judges."""
    train: Samples = tokens.load("calibration")
    for split in _JUDGED:
        train = train[unshared(train, tokens.load(split))]
    return train


@torch.no_grad()
def _round_as_stored(student: Any, folder: Path) -> None:
    """Give a model the values that its files will have, in the type that most tensors of the whole one have."""
    stored = Counter(tensor.info.dtype for tensor in read_headers(folder).values()).most_common(1)[0][0]
    dtype = _TYPES.get(stored, torch.float32)
    for parameter in student.parameters():
        parameter.copy_(parameter.to(dtype))
    student.config.dtype = dtype


@torch.no_grad()
def _cost(model: Any, family: Family, text: TaughtText, device: str) -> float:
    chosen = torch.arange(min(_CHOSEN_ON, len(text)))
    return float(TrainableModel(model, family, {}, {}).kl(*text.rows(chosen, device)))


@torch.no_grad()
def _held_out(
    model: Any, family: Family, worker: Worker, tokens: TokenSet, device: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    text, teacher = tokens.load("held_out"), read_teacher(worker.teacher_path(tokens, "held_out"))
    batches = text.split(BATCH)
    logits = (family.answers(model(**family.inputs(batch.to(device)))) for batch in batches)
    kl, loss = sequence_quality(logits, batches, teacher, family.loss)
    return tuple(kl), tuple(loss)
