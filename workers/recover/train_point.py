"""Training of a point's values: from its levels to a model, its course, and back into the level store.

Every recovery that trains does it here; they differ in what of a level is trained, and for how long.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from space.digest import digest
from space.inventory import Inventory
from workers.compress.build import BuiltLevel
from workers.devices import Device
from workers.levels.level_store import LevelStore
from workers.recover.distill import Course, Learned
from workers.recover.recovered_folder import recovered_folder
from workers.recover.recovery import Fitted, Lesson, Values
from workers.recover.sharded.assignment import Assignment, distillation
from workers.recover.sharded.crew import ALONE
from workers.recover.sharded.training_together import train_together
from workers.recover.trainable_model import MakeWeight, TrainableModel
from workers.recover.training_state import Judged
from workers.run.memory_limits import ITEM_BYTES, free_bytes
from workers.text.tokens import TokenSet

_STEP_FLOPS = 8  # for each weight and token: there, back, and the weights that are made of what is trained
_FLOPS_PER_CORE = 4e10
_KEPT, _LOGITS = 2, 5  # values kept for the way back, for each input and output of a module, and for each logit
_VALUES = 4  # for each weight: what it is made of, itself, its gradient and the dense one while it is loaded


def fit_by_training(lesson: Lesson, name: str, course: Course, make: MakeWeight, version: int) -> Fitted:
    """Train what `make` makes of a plan's levels, store it, and tell where it is.

    Args:
        lesson: what is trained, and on what.
        name: of the recovery.
        course: how long and how fast.
        make: the trained form of a level.
        version: part of the name of what is made.

    """
    assert lesson.text is not None  # noqa: S101 (its entry says that it needs text)
    workspace, start = lesson.workspace, lesson.start
    text = lesson.text()
    course = replace(
        course,
        seed=lesson.seed,
        max_seconds=lesson.max_seconds,
        temperature=lesson.temperature,
        hard_labels=lesson.hard_labels,
    )
    learned_from = (text.tokens.of("calibration"), text.tokens.of("search"))
    key = digest([start.tokens.of("calibration"), lesson.plan.digest, name, version, repr(course), *learned_from])
    named = TokenSet(start.tokens.path, start.tokens.note, (key, *start.tokens.digests[1:]))
    cache = Path(workspace.cache_folder)
    levels = cache / "levels"
    old, new = (LevelStore(levels, workspace.model_digest, t.of("calibration")) for t in (start.tokens, named))
    needed = training_bytes(course)(workspace.inventory, sequence_length(text.tokens), workspace.device)
    watch = _watcher(lesson, name)
    assignment = Assignment(
        workspace=workspace,
        plan=lesson.plan,
        start=start,
        text=text.tokens,
        answers=(text.answers("calibration"), text.answers("search")),
        course=course,
        make=make,
        state_path=cache / "recovering" / f"{key[:16]}.safetensors",
        sharding=lesson.sharding,
        recomputes=lesson.checkpointing or needed > free_bytes(workspace.device),
        threads=max(1, torch.get_num_threads() // lesson.processes),
    )
    peaks = train_together(assignment, lesson.processes, lesson.look, watch) if lesson.processes > 1 else []
    training = distillation(assignment, ALONE, look=lesson.look, watch=watch)  # what processes ended is read, not made
    learned, model = training.run(), training.model
    figures = _figures(learned, text.tokens, course) | ({"peak_bytes": peaks} if peaks else {})
    if learned.diverged or learned.kept_step == 0:
        told = "the training diverged" if learned.diverged else "no step was better on the selection text"
        return Fitted(start, figures, told)
    _store(lesson, model, old, new)
    others = {other: value.stored().cpu() for other, value in model.others.items()}
    return Fitted(Values(named, str(recovered_folder(Path(start.model_folder), cache, key, others))), figures)


def _store(lesson: Lesson, model: TrainableModel, old: LevelStore, new: LevelStore) -> None:
    """Write the levels of a trained model; what was not trained is copied."""
    for module in lesson.workspace.inventory.modules:
        if (level := lesson.plan[module.name]).is_dense:
            continue
        weight, error = model.weights.get(module.name), old.output_error(module.name, level)
        tensors = old.tensors(module.name, level) if weight is None else weight.stored()
        new.write(module.name, BuiltLevel(level, tensors, float("nan") if error is None else error))


def _watcher(lesson: Lesson, name: str) -> Any:
    def watch(judged: Judged, steps: int, seconds_left: float) -> None:
        minutes = f", about {max(1, round(seconds_left / 60))} min to go" if seconds_left else ""
        told = f"{name}: step {judged.step} of {steps}, KL {judged.selection_kl:.5f} on selection text{minutes}"
        lesson.progress(told, judged.step / max(1, steps))
        figures = {
            "training_kl": judged.training_kl,
            "selection_kl": judged.selection_kl,
            "learning_rate": judged.learning_rate,
            "tokens_per_second": judged.tokens_per_second,
        }
        lesson.watch(judged.step, figures)

    return watch


def _figures(learned: Learned, tokens: TokenSet, course: Course) -> dict[str, Any]:
    return {
        "steps": learned.steps,
        "kept_step": learned.kept_step,
        "diverged": learned.diverged,
        "seconds": round(learned.seconds, 1),
        "seed": course.seed,
        "learning_rate": course.learning_rate,
        "text": tokens.note,
        "text_digests": [tokens.of("calibration"), tokens.of("search")],
        "selection_kl": [learned.judged[0].selection_kl, min(j.selection_kl for j in learned.judged)],
        "curve": [
            [j.step, round(j.seconds, 1), round(j.training_kl, 6), round(j.selection_kl, 6)] for j in learned.judged
        ],
    }


def training_bytes(course: Course) -> Callable[[Inventory, int, Device], int]:
    """Return (model, tokens of a sample, device) -> the memory of a course: weights, a batch's values and logits.

    Where it is more than is free, blocks keep their inputs alone, and are run again on the way back.
    """

    def needed(inventory: Inventory, length: int, device: Device = "cpu") -> int:
        widths = sum(m.in_features + m.out_features for m in inventory.modules if m.block is not None)
        vocabulary = max((m.out_features for m in inventory.modules if m.block is None), default=0)
        values = course.batch * length * (_KEPT * widths + _LOGITS * vocabulary)
        return ITEM_BYTES[device] * (_VALUES * inventory.num_parameters + values)

    return needed


def training_seconds(course: Course) -> Callable[[Inventory, int], float]:
    """Return (model, tokens of a sequence) -> about how long a course takes on one core."""

    def seconds(inventory: Inventory, length: int) -> float:
        return _STEP_FLOPS * course.steps * course.batch * length * inventory.num_parameters / _FLOPS_PER_CORE

    return seconds


def sequence_length(tokens: TokenSet) -> int:
    """Return the tokens of a sequence of a text."""
    samples = tokens.load("calibration")
    return int(samples.numel() // len(samples))
