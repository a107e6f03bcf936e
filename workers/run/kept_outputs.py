"""What was computed on the way to the plan measured last, so that the next one starts at its first changed block.

Plans sorted by their levels in forward order are the leaves of a trie that is walked depth first: one stack of block
outputs per batch is then all that can be used again, and every node of the trie is computed once.
"""

from collections.abc import Collection, Sequence, Sized
from dataclasses import dataclass, field

from space.inventory import Inventory
from space.level import Level
from workers.families.block_stacks import BlockOutput, hidden_of
from workers.run.replay import Replay
from workers.tasks import BATCH

LIMIT_BYTES = 512 * 2**20
"""what a worker keeps of earlier plans, at most: half for outputs of blocks, half for what is inside one of them"""
_OUTPUTS_INSIDE = 16
"""tensors inside a block that are remembered, in outputs of the block, about"""
_NEAR_CHANGES = 4
Stages = tuple[tuple[Level, ...], ...]
"""levels in forward order: of each block (the first one with what is before the blocks), and of the head"""
Key = tuple[str, int, int]
"""a text, the index of a batch in it, and its sequences"""


def keys_of(text: str, first: int, batches: Sequence[Sized]) -> list[Key]:
    """Return the names of batches of a text's sequences from `first` on; odd ones are not worth remembering."""
    index, odd = divmod(first, BATCH)
    return [] if odd else [(text, index + i, len(batch)) for i, batch in enumerate(batches)]


@dataclass
class Trail:
    """Outputs of the blocks of one plan on one batch; None where one is not kept.

    Attributes:
        stages: levels that the outputs come from; none while they are being replaced.
        outputs: by block.
        replay: calls inside the block that was run first.
        replayed: that block and its levels then, where there is one.

    """

    stages: Stages = ()
    outputs: list[BlockOutput | None] = field(default_factory=list)
    replay: Replay = field(default_factory=Replay)
    replayed: tuple[int, tuple[Level, ...]] | None = None

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

    def is_near(self, stages: Stages) -> bool:
        """Tell whether a plan is so near to the one before that the next one will be too: probes are."""
        pairs = [pair for levels in zip(self.stages, stages, strict=False) for pair in zip(*levels, strict=True)]
        return bool(pairs) and sum(before != now for before, now in pairs) <= _NEAR_CHANGES

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
        return self.limit_bytes // 2 // max(1, len(self._kept))

    def may_replay(self, trail: Trail) -> bool:
        """Tell whether calls inside a block may be remembered for a batch: how large its outputs are is known."""
        return 0 < _OUTPUTS_INSIDE * output_bytes(next(filter(is_kept, trail.outputs), None)) <= self.share_bytes


def is_kept(output: BlockOutput | None) -> bool:
    """Tell whether a block's output is there."""
    return output is not None


def output_bytes(output: BlockOutput | None) -> int:
    """Return the bytes of a block's output."""
    if output is None:
        return 0
    return hidden_of(output).nbytes


def names_by_stage(
    inventory: Inventory,
    head_name: str | None,
    starts: tuple[int, ...] = (0,),
    anywhere: Collection[str] = (),
) -> tuple[tuple[str, ...], ...]:
    """Return the names of the modules that each stage needs: one stage per block, and one for the head.

    A module may be needed by several: a tied embedding by the first block and the head; a linear layer outside the
    blocks that is no head by all, since each forward passes it, on whichever side of the blocks it is; an embedding by
    the first block of each stack (`starts`), or by all (`anywhere`) where what it gives may go to any block.
    """
    last = inventory.num_blocks
    stages: list[list[str]] = [[] for _ in range(last + 1)]
    for module in inventory.sites:
        if module.block is not None:
            needed = {module.block}
        elif module.name == head_name:
            needed = {last}
        elif module.kind == "linear" or module.name in anywhere:
            needed = set(range(last + 1))
        else:
            needed = {*starts, last} if module.tied else {*starts}
        for stage in needed:
            stages[stage].append(module.name)
    return tuple(map(tuple, stages))
