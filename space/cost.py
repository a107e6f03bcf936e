"""Exact bytes of a plan: every stored byte of every tensor, the container's header aside.

A target says which tensors hold a module at a level (`space/targets`); their bytes are added up here and nowhere else.
"""

from dataclasses import dataclass

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from space.targets.target_table import TARGETS


def module_bytes(module: ModuleInfo, level: Level, target: str = "packed") -> int:
    """Return the stored bytes of one module at one level, its bias aside."""
    if level.is_dense:
        return module.weight.size_bytes
    return sum(tensor.size_bytes for tensor in TARGETS[target].layout(module, level))


def others_bytes(inventory: Inventory, target: str = "packed") -> int:
    """Return the stored bytes of the tensors that are left alone."""
    return sum(TARGETS[target].other(tensor).size_bytes for tensor in inventory.others)


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


def plan_cost(inventory: Inventory, plan: Plan, target: str = "packed", context: int = 0, batch: int = 1) -> Cost:
    """Return the exact cost of a plan for a target."""
    levels = plan.mapping
    modules = sum(module_bytes(module, levels[module.name], target) for module in inventory.modules)
    return Cost(modules, others_bytes(inventory, target), key_value_bytes(inventory, context, batch))
