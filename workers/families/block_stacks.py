"""Stacks of blocks that run one after the other, such as encoder and decoder, seen as one list of blocks.

What a block of the second stack gives depends on what the first one gave, too: both are kept as one tensor, the own
positions before those of the first stack, so that whatever keeps, cuts or differentiates block outputs sees one.
Shape legend: B samples, T own positions, S positions of the first stack, D and E their widths.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

BlockOutput = Any  # a (B, T, D) tensor, or a tuple that starts with one, as the architecture returns it
Stacks = tuple[tuple[str, nn.ModuleList], ...]
"""(name of a list of blocks, the list), in the order they run: one, or two"""


def hidden_of(output: BlockOutput) -> Tensor:
    """Return the (B, T, D) tensor of a block's output."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def as_given(hidden: Tensor, like: BlockOutput) -> BlockOutput:
    """Return a tensor as an architecture returns it, with what else stood beside it."""
    return (hidden, *like[1:]) if isinstance(like, tuple) else hidden


def joined(own: BlockOutput, before: BlockOutput) -> BlockOutput:
    """Return what a block of the second stack gave, and behind it what the first stack gave: (B, T + S, max(D, E))."""
    parts = [hidden_of(own), hidden_of(before)]
    width = max(part.shape[-1] for part in parts)
    both = [part if part.shape[-1] == width else pad(part, (0, width - part.shape[-1])) for part in parts]
    return as_given(torch.cat(both, 1), own)


def own_part(output: BlockOutput, like: Tensor) -> BlockOutput:
    """Return what a block of the second stack gave, out of a joined output; `like` has its (B, T, D) shape."""
    return as_given(hidden_of(output)[:, : like.shape[1], : like.shape[2]], output)


def part_before(output: BlockOutput, like: Tensor) -> Tensor:
    """Return what the first stack gave, out of a joined output; `like` has its (B, S, E) shape."""
    return hidden_of(output)[:, -like.shape[1] :, : like.shape[2]]
