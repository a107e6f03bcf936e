"""A model whose attention remembers keys and values at levels: by hooks, whoever makes its cache.

A token's keys and values are rounded when they come, before anything attends to them, and never again: no token is
kept in more bits for a while. So a forward over a whole text without a cache, in which every token's keys and values
pass through the same rounding, gives what generating the same text token by token gives.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from space.level import Level, parse_level
from workers.kernels.key_values.key_value_codes import rounded
from workers.kernels.key_values.packed_layer import PackedLayer

_CACHE = "past_key_values"  # transformers' argument


class Remembering:
    """How the layers of a model remember: keys and values by name, each in its own type or at a level."""

    def __init__(self, attentions: Mapping[str, nn.Module]) -> None:
        """Take the modules by the name of their keys or values, such as `model.layers.0.self_attn.keys`."""
        self._attentions = attentions
        self._bits: dict[str, int] = {}
        self._hooks: dict[str, Any] = {}

    def begin(self, name: str, level: Level) -> None:
        """Remember keys or values at a level from now on."""
        self.end(name)
        if level.bits is None:
            return
        self._bits[name] = level.bits
        owner = name.rpartition(".")[0]
        if owner not in self._hooks:
            self._hooks[owner] = self._attentions[name].register_forward_pre_hook(self._hook(owner), with_kwargs=True)

    def end(self, name: str) -> None:
        """Remember keys or values in their own type."""
        owner = name.rpartition(".")[0]
        if self._bits.pop(name, None) is not None and not any(n.rpartition(".")[0] == owner for n in self._bits):
            self._hooks.pop(owner).remove()

    def _hook(self, owner: str) -> Any:
        def through_cache(
            module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            bits = self._bits.get(f"{owner}.keys"), self._bits.get(f"{owner}.values")
            cache = named.get(_CACHE)
            if cache is None:
                return inputs, {**named, _CACHE: _Passing(*bits)}
            _replace_layer(cache, int(module.layer_idx), bits)  # type: ignore[arg-type]
            return inputs, named

        return through_cache


def remember_as(model: nn.Module, texts: Mapping[str, str]) -> None:
    """Have a model remember keys and values at the levels of some texts, from now on."""
    named = dict(model.named_modules())
    remembering = Remembering({name: named[name.rpartition(".")[0]] for name in texts})
    for name, text in texts.items():
        remembering.begin(name, parse_level(text))


class _Passing:
    """Stands for a cache where there is none: what would be remembered is passed on, and forgotten."""

    def __init__(self, key_bits: int | None, value_bits: int | None) -> None:
        self._bits = key_bits, value_bits

    def update(self, keys_bhtd: Tensor, values_bhtd: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        key_bits, value_bits = self._bits
        keys = keys_bhtd if key_bits is None else rounded(keys_bhtd, key_bits)
        return keys, values_bhtd if value_bits is None else rounded(values_bhtd, value_bits)


def _replace_layer(cache: Any, index: int, bits: tuple[int | None, int | None]) -> None:
    """Put a packed layer into transformers' cache, where its own one is and holds nothing yet."""
    from transformers.cache_utils import DynamicLayer

    while len(cache.layers) <= index and cache.layer_class_to_replicate is not None:
        cache.layers.append(cache.layer_class_to_replicate())
    layer = cache.layers[index]
    if isinstance(layer, PackedLayer):
        return
    if type(layer) is not DynamicLayer or layer.get_seq_length():
        raise ValueError(
            f"This checkpoint remembers keys and values in {_told(bits)} bits, which goes with transformers' "
            f"DynamicCache alone, empty at first; layer {index} has a {type(layer).__name__}. Leave `past_key_values` "
            "and `cache_implementation` out."
        )
    cache.layers[index] = PackedLayer(*bits)


def _told(bits: tuple[int | None, int | None]) -> str:
    return " and ".join("16" if b is None else str(b) for b in bits)
