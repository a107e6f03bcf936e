"""Blocks cut out of a model: those without which its answers change least, found one after the other.

As ShortGPT leaves layers out (arXiv 2403.03853), but chosen by what their absence costs in the family's own metric.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from space.errors import SpecError
from workers.families.block_stacks import as_given
from workers.families.family import Family

_INDICES = ("layer_idx", "layer_index", "layer_id")


def check_cut(name: str, model: nn.Module, family: Family, keep: int) -> None:
    """Refuse a cut that leaves no model, or is of one whose blocks are not a single list. Raises SpecError."""
    stacks = family.stages(model)
    if len(stacks) > 1:
        raise SpecError(f"{name}: its blocks are {len(stacks)} lists, of which none can be cut yet.")
    count = len(stacks[0][1])
    if not 0 < keep < count:
        raise SpecError(f"--blocks {keep}: {name} has {count} blocks; keep 1 to {count - 1} of them.")
    if not _counts(model, count):
        raise SpecError(f"{name}: no number in its config.json is that of its {count} blocks, so that none can be cut.")


def least_needed(model: nn.Module, family: Family, keep: int, cost: Callable[[], float]) -> tuple[int, ...]:
    """Return the indices of the blocks to keep: of those that are left, the one whose absence costs least goes next.

    Args:
        model: whole.
        family: its kind.
        keep: how many blocks.
        cost: of the model as it is now.

    """
    (_, blocks), *_ = family.stages(model)
    left = list(range(len(blocks)))
    while len(left) > keep:
        gone = [index for index in range(len(blocks)) if index not in left]
        costs = {}
        for index in left:
            with skipping([blocks[i] for i in (*gone, index)]):
                costs[index] = cost()
        left.remove(min(left, key=lambda index: costs[index]))
    return tuple(left)


@contextmanager
def skipping(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Have some blocks give on what they are given while the context lasts."""

    def skip(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        return as_given(args[0] if args else named["hidden_states"], output)

    hooks = [block.register_forward_hook(skip, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def cut(model: Any, family: Family, kept: Sequence[int]) -> None:
    """Leave a model the blocks of some indices: in its list of blocks, its config, and what they call themselves."""
    (name, blocks), *_ = family.stages(model)
    count = len(blocks)
    owner, _, last = name.rpartition(".")
    chosen = nn.ModuleList([blocks[index] for index in kept])
    setattr(model.get_submodule(owner), last, chosen)
    for place, block in enumerate(chosen):
        for module in block.modules():
            for field in _INDICES:
                if isinstance(getattr(module, field, None), int):
                    setattr(module, field, place)
    config = model.config.get_text_config()
    for field in _counts(model, count):
        setattr(config, field, len(kept))
    for field, value in list(vars(config).items()):
        if isinstance(value, list) and len(value) == count:
            setattr(config, field, [value[index] for index in kept])


def _counts(model: Any, count: int) -> list[str]:
    """Return the fields of a config that hold the number of blocks."""
    config = model.config.get_text_config()
    named = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    return [named] if getattr(config, named, None) == count else []
