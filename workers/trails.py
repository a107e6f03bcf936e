"""What was computed on the way to the plan measured last, so that the next one starts at its first changed block.

Plans sorted by their levels in forward order are the leaves of a trie that is walked depth first: one stack of block
outputs per batch is then all that can be used again, and every node of the trie is computed once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from workers.models.blocks import BlockOutput

LIMIT_BYTES = 512 * 2**20
"""block outputs that a worker keeps, at most: its activation buffer"""
Stages = tuple[tuple[Level, ...], ...]
"""levels in forward order: of each block (the first one with what is before the blocks), and of the head"""
Key = tuple[str, int, int]
"""a text, the index of a batch in it, and its sequences"""


@dataclass
class Trail:
    """Outputs of the blocks of one plan on one batch; None where one is not kept.

    Attributes:
        stages: levels that the outputs come from; none while they are being replaced.
        outputs: by block.

    """

    stages: Stages = ()
    outputs: list[BlockOutput | None] = field(default_factory=list)

    def start(self, stages: Stages) -> int:
        """Return the first block that a plan must run: all before it are the same and the last of them is kept."""
        same = 0
        while same < len(self.outputs) and self.stages[same : same + 1] == stages[same : same + 1]:
            same += 1
        while same and self.outputs[same - 1] is None:
            same -= 1
        return same

    def keep(self, stages: Stages, limit_bytes: int) -> None:
        """Remember whose outputs these are, and as many as the limit allows, evenly spread, the last one among them."""
        self.stages = stages
        stride = max(1, -(-self.size_bytes // max(1, limit_bytes)))
        if stride > 1:
            last = len(self.outputs) - 1
            self.outputs = [out if (last - i) % stride == 0 else None for i, out in enumerate(self.outputs)]

    def push(self, block: int, output: BlockOutput, num_blocks: int, limit_bytes: int) -> None:
        """Set the output of a block; the one before it goes where the limit does not allow it."""
        self.outputs[block:] = [output]
        stride = max(1, -(-output_bytes(output) * num_blocks // max(1, limit_bytes)))
        if block and (num_blocks - block) % stride:
            self.outputs[block - 1] = None

    @property
    def size_bytes(self) -> int:
        """Return the bytes that are kept."""
        return sum(map(output_bytes, self.outputs))


@dataclass
class Trails:
    """The trails of the batches that were measured last; together they stay within a limit."""

    limit_bytes: int = LIMIT_BYTES
    _kept: dict[Key, Trail] = field(default_factory=dict)

    def of(self, keys: Sequence[Key]) -> list[Trail]:
        """Return the trails of batches, and forget those of all others."""
        self._kept = {key: self._kept.get(key) or Trail() for key in keys}
        return list(self._kept.values())

    @property
    def share_bytes(self) -> int:
        """Return the bytes that each batch may keep."""
        return self.limit_bytes // max(1, len(self._kept))


def output_bytes(output: BlockOutput | None) -> int:
    """Return the bytes of a block's output."""
    if output is None:
        return 0
    tensor = output[0] if isinstance(output, tuple) else output
    return int(tensor.numel() * tensor.element_size())


def stages_of(plan: Plan, inventory: Inventory, head_name: str | None) -> Stages:
    """Return a plan's levels stage by stage; what is outside the blocks and is no head counts as before them."""
    stages: list[list[Level]] = [[] for _ in range(inventory.num_blocks + 1)]
    for module in inventory.modules:
        outside = inventory.num_blocks if module.name == head_name else 0
        stages[outside if module.block is None else module.block].append(plan[module.name])
    return tuple(map(tuple, stages))
