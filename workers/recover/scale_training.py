"""All scales, norms and biases of a compressed model, trained end to end towards the dense model's answers; codes stay.

What EfficientQAT (arXiv 2407.11062, section 3.3) does in its second phase to step sizes, here for every level whose
scales are numbers of their own, and with the KL divergence to cached answers for a loss.
"""

from space.inventory import Inventory
from space.plan import Plan
from workers.recover.distill import Course
from workers.recover.recovery import Fitted, Lesson, Recovery
from workers.recover.train_point import fit_by_training, sequence_length, training_bytes, training_seconds
from workers.recover.trainable_model import scaled_weight
from workers.recover.trained_weights import TRAINED_WEIGHTS

SCALES_COURSE = Course(steps=320, learning_rate=1e-3)
_VERSION = 1


def can_help(inventory: Inventory, plan: Plan) -> bool:
    """Tell whether a plan has scales that can be trained."""
    levels = [plan[m.name] for m in inventory.modules]
    return any(level.coding in TRAINED_WEIGHTS for level in levels if not level.is_dense)


def _fit(lesson: Lesson) -> Fitted:
    return fit_by_training(lesson, SCALES.name, SCALES_COURSE, scaled_weight, _VERSION)


SCALES = Recovery(
    name="scales",
    done="trained after the search, its scales, norms and biases",
    can_help=can_help,
    needed_bytes=training_bytes(SCALES_COURSE),
    estimated_seconds=training_seconds(SCALES_COURSE),
    num_tokens=sequence_length,
    fit=_fit,
)
