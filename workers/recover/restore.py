"""Pruned levels trained back behind the masks that they have: zeros stay zeros; of others the scales are trained."""

from typing import Any

from torch import Tensor

from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from workers.kernels.kernel import Tensors
from workers.recover.distill import Course
from workers.recover.latent_weights import LatentWeight
from workers.recover.recovery import Fitted, Lesson, Recovery
from workers.recover.train_point import fit_by_training, sequence_length, training_bytes, training_seconds
from workers.recover.trainable_model import scaled_weight

RESTORE_COURSE = Course(steps=480, learning_rate=1e-3)
_VERSION = 1


def _is_pruned(level: Level) -> bool:
    return level.sparsity > 0 and level.coding == "integer"


def can_help(inventory: Inventory, plan: Plan) -> bool:
    """Tell whether a plan has pruned integers."""
    return any(_is_pruned(plan[m.name]) for m in inventory.modules)


def kept_weight(tensors: Tensors, level: Level, dense: Tensor) -> Any:
    """Return the weight of a pruned level whose kept values are trained; of another level its scales alone."""
    return LatentWeight(tensors, level, dense) if _is_pruned(level) else scaled_weight(tensors, level, dense)


def _fit(lesson: Lesson) -> Fitted:
    return fit_by_training(lesson, RESTORE.name, RESTORE_COURSE, kept_weight, _VERSION)


RESTORE = Recovery(
    name="restore",
    done="trained after the search, what pruning had left of it",
    can_help=can_help,
    needed_bytes=training_bytes(RESTORE_COURSE),
    estimated_seconds=training_seconds(RESTORE_COURSE),
    num_tokens=sequence_length,
    fit=_fit,
)
