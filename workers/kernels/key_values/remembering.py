"""A model whose attention remembers keys and values at levels: by hooks, whoever makes its cache.

A token's keys and values are rounded when they come, before anything attends to them, and never again: no token is
kept in more bits for a while. So a forward over a whole text without a cache, in which every token's keys and values
pass through the same rounding, gives what generating the same text token by token gives.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn

from space.level import Level, parse_level
from space.plan import Plan
from space.targets.cache_sites import KEYS, VALUES
from workers.kernels.key_values.packed_layer import PackedLayer
from workers.kernels.key_values.rounding import rounded

_CACHE = "past_key_values"  # transformers' argument
_REMEMBERING = "_tightfit_remembering"
_Levels = tuple[Level | None, Level | None]
"""of keys and of values; None: their own type"""


class Remembering:
    """How the layers of a model remember: keys and values by name, each in its own type or at a level."""

    def __init__(self, attentions: Mapping[str, nn.Module]) -> None:
        """Take the modules by the name of their keys or values, such as `model.layers.0.self_attn.keys`."""
        self._attentions = attentions
        self._levels: dict[str, Level] = {}
        self._is_off = False
        self._hooks: dict[str, Any] = {}

    def begin(self, name: str, level: Level) -> None:
        """Remember keys or values at a level from now on."""
        self.end(name)
        if level.bits is None:
            return
        self._levels[name] = level
        owner = name.rpartition(".")[0]
        if owner not in self._hooks:
            self._hooks[owner] = self._attentions[name].register_forward_pre_hook(self._hook(owner), with_kwargs=True)

    def end(self, name: str) -> None:
        """Remember keys or values in their own type."""
        owner = name.rpartition(".")[0]
        if self._levels.pop(name, None) is not None and not any(n.rpartition(".")[0] == owner for n in self._levels):
            self._hooks.pop(owner).remove()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Remember all in its own type for a while, in forwards that bring no cache."""
        self._is_off = True
        try:
            yield
        finally:
            self._is_off = False

    def _hook(self, owner: str) -> Any:
        def through_cache(
            module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            levels = self._levels.get(f"{owner}.{KEYS}"), self._levels.get(f"{owner}.{VALUES}")
            cache = named.get(_CACHE)
            if self._is_off:
                return inputs, named
            if cache is None:
                return inputs, {**named, _CACHE: _Passing(levels)}
            _replace_layer(cache, int(module.layer_idx), levels)  # type: ignore[arg-type]
            return inputs, named

        return through_cache


def remember_as(model: nn.Module, texts: Mapping[str, str]) -> None:
    """Have a model remember keys and values at the levels of some texts, from now on."""
    named = dict(model.named_modules())
    remembering = Remembering({name: named[name.rpartition(".")[0]] for name in texts})
    for name, text in texts.items():
        remembering.begin(name, parse_level(text))
    setattr(model, _REMEMBERING, remembering)


def in_own_type(model: nn.Module) -> AbstractContextManager[None]:
    """Have a model remember keys and values in their own type for a while, in forwards that bring no cache."""
    remembering: Remembering | None = getattr(model, _REMEMBERING, None)
    return nullcontext() if remembering is None else remembering.off()


def remember_by(model: nn.Module, plan: Plan) -> None:
    """Have a model remember keys and values at the levels that a plan has of them, from now on."""
    remember_as(model, {name: level.text for name, level in plan.levels if level.is_of_cache})


class _Passing:
    """Stands for a cache where there is none: what would be remembered is passed on, and forgotten."""

    def __init__(self, levels: _Levels) -> None:
        self._levels = levels

    def update(self, keys_bhtd: Tensor, values_bhtd: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        of_keys, of_values = self._levels
        keys = keys_bhtd if of_keys is None else rounded(keys_bhtd, of_keys, KEYS)
        return keys, values_bhtd if of_values is None else rounded(values_bhtd, of_values, VALUES)


def _replace_layer(cache: Any, index: int, levels: _Levels) -> None:
    """Put a layer that rounds into transformers' cache, where its own one is and holds nothing yet."""
    from transformers.cache_utils import DynamicLayer

    while len(cache.layers) <= index and cache.layer_class_to_replicate is not None:
        cache.layers.append(cache.layer_class_to_replicate())
    layer = cache.layers[index]
    if isinstance(layer, PackedLayer):
        return
    if type(layer) is not DynamicLayer or layer.get_seq_length():
        raise ValueError(
            f"This checkpoint remembers keys and values in {_told(levels)} bits, which goes with transformers' "
            f"DynamicCache alone, empty at first; layer {index} has a {type(layer).__name__}. Leave `past_key_values` "
            "and `cache_implementation` out."
        )
    cache.layers[index] = PackedLayer(*levels)


def _told(levels: _Levels) -> str:
    return " and ".join("16" if level is None else str(level.bits) for level in levels)
