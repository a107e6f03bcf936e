"""Which attention hands plain keys and values of all tokens to the cache, seen in forwards on the meta device."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from space.inventory import CacheLayer
from workers.families.block_stacks import Stacks

_CACHE = "past_key_values"
_DIMENSIONS = 4  # sequences, heads, tokens, values of a head


class Attentions:
    """Watches which modules of a layer are given the cache by name."""

    def __init__(self, model: nn.Module) -> None:
        """Begin to watch."""
        self._given: dict[int, set[str]] = defaultdict(set)
        layers = {name: i for name, m in model.named_modules() if isinstance(i := getattr(m, "layer_idx", None), int)}
        modules = dict(model.named_modules())
        self._hooks = [
            modules[name].register_forward_pre_hook(self._watch(name, index), with_kwargs=True)
            for name, index in layers.items()
        ]

    def _watch(self, name: str, index: int) -> Any:
        def seen(_module: nn.Module, _inputs: Any, named: dict[str, Any]) -> None:
            if named.get(_CACHE) is not None:
                self._given[index].add(name)

        return seen

    def forget(self) -> None:
        """Watch no more."""
        for hook in self._hooks:
            hook.remove()

    def named(self, layers: Sequence[CacheLayer], held: Sequence[Any]) -> tuple[CacheLayer, ...]:
        """Return the layers, with their attention where that is plain: all that they hold is its keys and values.

        Args:
            layers: of the cache, as they were counted.
            held: transformers' layers after a forward.

        """
        return tuple(self._named(index, *pair) for index, pair in enumerate(zip(layers, held, strict=True)))

    def _named(self, index: int, layer: CacheLayer, held: Any) -> CacheLayer:
        from transformers.cache_utils import DynamicLayer

        names = self._given[index]
        inner = [name for name in names if not any(other.startswith(f"{name}.") for other in names)]
        keys, values = getattr(held, "keys", None), getattr(held, "values", None)
        if type(held) is not DynamicLayer or len(inner) != 1 or not isinstance(keys, Tensor):
            return layer
        if not isinstance(values, Tensor) or keys.dim() != _DIMENSIONS or keys.shape[:3] != values.shape[:3]:
            return layer
        heads, widths = keys.shape[1], (keys.shape[-1], values.shape[-1])
        if layer.fixed_bytes or layer.token_bytes != heads * sum(widths) * layer.value_bytes:
            return layer
        return replace(layer, owner=inner[0], heads=heads, key_width=widths[0], value_width=widths[1])


def in_blocks(layers: tuple[CacheLayer, ...] | None, stacks: Stacks) -> tuple[CacheLayer, ...] | None:
    """Return the layers, each with its block; none is plain where blocks share what others remember."""
    places = [f"{name}.{index}." for name, blocks in stacks for index in range(len(blocks))]
    found = []
    for layer in layers or ():
        block = next((i for i, place in enumerate(places) if (layer.owner or "").startswith(place)), None)
        is_own = block is not None and len(layers or ()) == len(places)
        found.append(replace(layer, owner=layer.owner if is_own else None, block=block if is_own else None))
    return None if layers is None else tuple(found)
