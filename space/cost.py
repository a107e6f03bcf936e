"""Exact bytes of a plan: every stored byte of every tensor, the container's header aside, and the key/value cache.

A target says which tensors hold a module at a level (`space/targets`); their bytes are added up here and nowhere else.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from space.codings.coding_table import CODINGS
from space.inventory import CacheLayer, Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.plan import Plan
from space.targets.target_table import TARGETS


def module_bytes(module: ModuleInfo, level: Level, target: str = "packed") -> int:
    """Return the stored bytes of one module at one level, its bias aside."""
    if level.is_dense:
        return module.weight.size_bytes
    return sum(tensor.size_bytes for tensor in _layout(module, level, target))


def _layout(module: ModuleInfo, level: Level, target: str) -> tuple[TensorInfo, ...]:
    """Return the tensors that hold a module in a target's files, or what its runtime holds of a cache."""
    if level.is_of_cache:
        return CODINGS[level.coding].layout(module.out_features, module.in_features, level.bits or 0)
    return TARGETS[target].layout(module, level)


def others_bytes(inventory: Inventory, target: str = "packed") -> int:
    """Return the stored bytes of the tensors that are left alone."""
    return sum(TARGETS[target].other(tensor).size_bytes for tensor in inventory.others)


@dataclass(frozen=True, slots=True)
class PlanBytes:
    """Where a plan's bytes go on the device that runs it.

    Attributes:
        values: what stands for the weights of packed modules: integers, symbols, blocks with scales of their own.
        scales: those that are stored apart.
        masks: of zeros.
        factors: of low-rank corrections.
        dense: modules that are left dense.
        others: the tensors left alone.
        key_value: the key/value cache at the asked context and batch, as the target's runtime has it at the plan's
            levels (0: weights only).
        embeddings: of all these, the embeddings; a head that is tied to one is stored with it.
        heads: of all these, linear layers outside the blocks.

    """

    values: int
    scales: int
    masks: int
    factors: int
    dense: int
    others: int
    key_value: int
    embeddings: int
    heads: int

    @property
    def weight_bytes(self) -> int:
        """Return what the weight files hold."""
        return self.values + self.scales + self.masks + self.factors + self.dense + self.others

    @property
    def size_bytes(self) -> int:
        """Return what counts against the budget."""
        return self.weight_bytes + self.key_value

    @property
    def by_part(self) -> dict[str, int]:
        """Return the bytes of each of BYTE_PARTS, which make up `size_bytes`."""
        weights = (self.values, self.scales, self.masks, self.factors, self.dense, self.others)
        return dict(zip(BYTE_PARTS, (*weights, self.key_value), strict=True))


BYTE_PARTS = ("values", "scales", "masks", "low-rank factors", "dense modules", "tensors left alone", "KV cache")
"""What users are told that bytes go to, in this order wherever a size is shown."""


def parts_told(by_part: Mapping[str, int]) -> str:
    """Return where bytes go as a part of a sentence: what takes none is left out.

    >>> parts_told({"values": 2000, "masks": 0, "scales": 10})
    '2,000 values, 10 scales'

    """
    return ", ".join(f"{size:,} {part}" for part, size in by_part.items() if size)


_PART_OF = {
    **dict.fromkeys(("scale", "scales", "biases", "weight_scale", "suh", "svh"), "scales"),
    "mask": "masks",
    **dict.fromkeys(("left", "right", "factor_scale"), "factors"),
}
"""Name of a tensor within its module -> field of `PlanBytes`; any other holds values."""


def plan_bytes(inventory: Inventory, plan: Plan, target: str = "packed", context: int = 0, batch: int = 1) -> PlanBytes:
    """Return the exact bytes of a plan for a target, and of the cache of `batch` sequences of `context` tokens."""
    parts, place = Counter[str](), Counter[str]()
    levels = plan.mapping
    for module in inventory.modules:
        of_module = _parts(module, levels[module.name], target)
        parts.update(of_module)
        outside = "heads" if module.block is None else "blocks"
        place["embeddings" if module.kind == "embedding" else outside] += sum(of_module.values())
    return PlanBytes(
        parts["values"],
        parts["scales"],
        parts["masks"],
        parts["factors"],
        parts["dense"],
        others_bytes(inventory, target),
        key_value_bytes(inventory, context, batch, target) + searched_cache_bytes(inventory, plan, target),
        place["embeddings"],
        place["heads"],
    )


def _parts(module: ModuleInfo, level: Level, target: str) -> Counter[str]:
    """Return field of `PlanBytes` -> bytes of a module."""
    if level.is_dense:
        return Counter(dense=module.weight.size_bytes)
    parts: Counter[str] = Counter()
    for tensor in TARGETS[target].layout(module, level):
        parts[_PART_OF.get(tensor.name, "values")] += tensor.size_bytes
    return parts


def cache_layers(inventory: Inventory, target: str = "packed") -> tuple[CacheLayer, ...] | None:
    """Return the layers of the key/value cache as a target's runtime has them; None where the model tells none."""
    size = TARGETS[target].cache_value_bytes
    if inventory.key_value is None or size is None:
        return inventory.key_value
    return tuple(
        replace(layer, token_bytes=layer.token_bytes // layer.value_bytes * size, value_bytes=size)
        for layer in inventory.key_value
    )


def searched_cache_bytes(inventory: Inventory, plan: Plan, target: str = "packed") -> int:
    """Return the bytes of the keys and values that have levels, for as many tokens as their inventory is of."""
    return sum(module_bytes(cache, plan[cache.name], target) for cache in inventory.caches)


def key_value_bytes(inventory: Inventory, context: int, batch: int, target: str = "packed") -> int:
    """Return the bytes of the key/value cache for `batch` sequences of `context` tokens, without what has levels."""
    layers = cache_layers(inventory, target)
    if layers is None or not context:
        return 0
    return batch * sum(layer.size_bytes(context) for layer in layers)
