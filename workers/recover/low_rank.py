"""Low-rank corrections trained end to end, in the 8-bit factors that they have; of other levels the scales."""

from typing import Any

from torch import Tensor

from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from workers.kernels.kernel import Tensors
from workers.recover.distill import Course
from workers.recover.latent_weights import FactorWeight
from workers.recover.recovery import Fitted, Lesson, Recovery
from workers.recover.train_point import fit_by_training, sequence_length, training_bytes, training_seconds
from workers.recover.trainable_model import scaled_weight

FACTORS_COURSE = Course(steps=320)
_VERSION = 1


def can_help(inventory: Inventory, plan: Plan) -> bool:
    """Tell whether a plan has corrections."""
    return any(plan[m.name].rank > 0 for m in inventory.modules)


def factor_weight(tensors: Tensors, level: Level, dense: Tensor) -> Any:
    """Return the weight of a level whose correction is trained; of one without its scales alone."""
    return FactorWeight(tensors, level, dense.shape[1]) if level.rank else scaled_weight(tensors, level, dense)


def _fit(lesson: Lesson) -> Fitted:
    return fit_by_training(lesson, LOW_RANK.name, FACTORS_COURSE, factor_weight, _VERSION)


LOW_RANK = Recovery(
    name="low-rank",
    done="trained after the search, its low-rank corrections and scales",
    can_help=can_help,
    needed_bytes=training_bytes(FACTORS_COURSE),
    estimated_seconds=training_seconds(FACTORS_COURSE),
    num_tokens=sequence_length,
    fit=_fit,
)
