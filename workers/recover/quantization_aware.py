"""Codes of integers trained with their scales, and encoded again on the same grid; trellises keep their codes.

A straight-through estimator on latent values (arXiv 1308.3432, section 4), as in learned step size quantization
(arXiv 1902.08153), with the KL divergence to the dense model's cached answers for a loss (arXiv 2601.20088).
"""

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

CODES_COURSE = Course(steps=480, learning_rate=1e-3)
_VERSION = 1


def can_help(inventory: Inventory, plan: Plan) -> bool:
    """Tell whether a plan has integers."""
    levels = [plan[m.name] for m in inventory.modules]
    return any(level.coding == "integer" for level in levels if not level.is_dense)


def latent_weight(tensors: Tensors, level: Level, dense: Tensor) -> Any:
    """Return the weight of a level whose codes are trained; of another coding its scales alone."""
    return LatentWeight(tensors, level, dense) if level.coding == "integer" else scaled_weight(tensors, level, dense)


def _fit(lesson: Lesson) -> Fitted:
    return fit_by_training(lesson, QUANTIZATION_AWARE.name, CODES_COURSE, latent_weight, _VERSION)


QUANTIZATION_AWARE = Recovery(
    name="quantization-aware",
    done="trained after the search, its codes and scales",
    can_help=can_help,
    needed_bytes=training_bytes(CODES_COURSE),
    estimated_seconds=training_seconds(CODES_COURSE),
    num_tokens=sequence_length,
    fit=_fit,
)
