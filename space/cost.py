"""Exact bytes of a plan: every stored byte of every tensor, the container's header aside.

The `packed` container stores one module as

    qweight       uint8 (out, ceil(kept * bits / 8))   the kept values of a row, one little-endian bit stream per row
    scale         float16 (out, groups)                one per `group_size` columns
    mask          uint8 (out, ceil(in / 8))            unstructured: one bit per column
                  uint8 (out, ceil(in / 4 * 3 / 8))    2:4: one of six codes, three bits per four columns
    left, right   int8 (out, rank), int8 (rank, in)    low-rank correction
    factor_scale  float32 (rank,)

A trellis stores its symbols as `qweight`; its codebook follows from the bits. A rotated level stores the tensors of the
rotated weight; the rotation follows from the number of columns. `compressed-tensors` stores int32 rows of packed
values, float16 scales and an int64 pair for the shape.
"""

from dataclasses import dataclass
from typing import Literal

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan

Target = Literal["packed", "compressed-tensors"]
PRUNING_BLOCK = 128


def num_groups(level: Level, in_features: int) -> int:
    """Return the number of scales per row; the last group may be smaller."""
    return 1 if level.group_size is None else -(-in_features // level.group_size)


def kept_columns(level: Level, in_features: int) -> int:
    """Return how many values of each row are kept: pruning works in blocks of 128 columns with an exact count each."""
    if level.pattern == "2:4":
        return in_features // 2
    widths = [min(PRUNING_BLOCK, in_features - start) for start in range(0, in_features, PRUNING_BLOCK)]
    return sum(width - int(width * level.sparsity) for width in widths)


def mask_row_bytes(level: Level, in_features: int) -> int:
    """Return the bytes of one row's mask."""
    if level.sparsity == 0:
        return 0
    return -(-(in_features // 4 * 3) // 8) if level.pattern == "2:4" else -(-in_features // 8)


def module_bytes(module: ModuleInfo, level: Level, target: Target = "packed") -> int:
    """Return the stored bytes of one module at one level, its bias aside."""
    if level.bits is None:
        return module.weight.size_bytes
    rows, columns = module.out_features, module.in_features
    scale_bytes = 2 * rows * num_groups(level, columns)
    if target == "compressed-tensors":
        return rows * -(-columns * level.bits // 32) * 4 + scale_bytes + 16
    value_bytes = rows * -(-kept_columns(level, columns) * level.bits // 8)
    factor_bytes = level.rank * (rows + columns + 4)
    return value_bytes + scale_bytes + rows * mask_row_bytes(level, columns) + factor_bytes


@dataclass(frozen=True, slots=True)
class Cost:
    """Where a plan's bytes go.

    Attributes:
        modules_bytes: packed integers, scales, masks and factors of the searched modules.
        others_bytes: the tensors left alone.
        key_value_bytes: the key/value cache at the asked context and batch (0: weights only).

    """

    modules_bytes: int
    others_bytes: int
    key_value_bytes: int

    @property
    def weight_bytes(self) -> int:
        """Return what the weight files hold."""
        return self.modules_bytes + self.others_bytes

    @property
    def size_bytes(self) -> int:
        """Return what counts against the budget."""
        return self.weight_bytes + self.key_value_bytes


def key_value_bytes(inventory: Inventory, context: int, batch: int) -> int:
    """Return the bytes of the key/value cache for `batch` sequences of `context` tokens."""
    if inventory.key_value is None or not context:
        return 0
    return batch * sum(layer.size_bytes(context) for layer in inventory.key_value)


def plan_cost(inventory: Inventory, plan: Plan, target: Target = "packed", context: int = 0, batch: int = 1) -> Cost:
    """Return the exact cost of a plan for a target."""
    levels = plan.mapping
    modules = sum(module_bytes(module, levels[module.name], target) for module in inventory.modules)
    return Cost(modules, inventory.others_bytes, key_value_bytes(inventory, context, batch))
