"""Where levels of the key/value cache go: the keys and the values of each layer of attention that has nothing else."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from space.codings.coding_table import CODINGS
from space.errors import SpecError
from space.inventory import CacheLayer, Inventory, ModuleInfo, TensorInfo, as_planned
from space.level import Level
from space.targets.target_table import TARGETS

DENSE_CACHE = (16,)
"""bits of a cache that is kept in the type of the runtime"""
KEYS, VALUES = "keys", "values"
_TYPES = {2: "BF16", 4: "F32"}


def with_cache_sites(inventory: Inventory, context: int, batch: int, target: str) -> Inventory:
    """Return an inventory whose caches can have levels; what is left of its key/value cache cannot.

    A site is a matrix of one row for each head of each token, `batch` sequences of `context` tokens: its bytes are
    those that the runtime allocates when all of them are full.

    Raises:
        SpecError: no layer is such that the target's runtime can hold it so.

    """
    layers = inventory.key_value or ()
    if not TARGETS[target].holds_caches_apart and not all(layer.is_plain for layer in layers):
        raise SpecError(
            f"--cache-bits: the runtime of --target {target} is told of all layers at once, and some of this model "
            "remember something else than plain keys and values of all tokens (sliding windows, latent attention, "
            "recurrent states), which is not measured in fewer bits; leave the option out."
        )
    caches = tuple(site for layer in layers if layer.is_plain for site in _sites(layer, context * batch, target))
    if not caches:
        raise SpecError(
            "--cache-bits: no layer of this model remembers plain keys and values of all tokens (sliding windows, "
            "latent attention and recurrent states stay as they are); leave the option out."
        )
    coding = CODINGS[TARGETS[target].cache_coding]
    if wrong := next((cache for cache in caches if not coding.fits(cache.out_features, cache.in_features)), None):
        raise SpecError(
            f"--cache-bits: --target {target} keeps heads of a multiple of 32 values in fewer bits, and {wrong.name} "
            f"has {wrong.in_features}; leave the option out."
        )
    left = tuple(replace(layer, token_bytes=0) if layer.is_plain else layer for layer in layers)
    return replace(inventory, key_value=left, caches=caches)


def check_cache_bits(bits: tuple[int, ...], context: int, target: str, generation: str | None) -> None:
    """Refuse bits of the cache that a target's runtime does not have on some hardware, or that nothing is counted of.

    Raises:
        SpecError: says which target has them.

    """
    if bits == DENSE_CACHE:
        return
    told = f"--cache-bits {','.join(map(str, bits))}"
    entry = TARGETS[target]
    if not set(bits) <= {*DENSE_CACHE, *entry.cache_bits}:
        able = [name for name, other in TARGETS.items() if set(bits) <= {*DENSE_CACHE, *other.cache_bits}]
        use = f"use --target {' or '.join(able)}, or leave the option out" if able else "no target has all of them"
        has = f"has {', '.join(map(str, (*entry.cache_bits, *DENSE_CACHE)))} bits" if entry.cache_bits else "has none"
        raise SpecError(f"{told}: the runtime of --target {target} {has}; {use}.")
    fewer = [Level(b, coding=entry.cache_coding) for b in bits if b not in DENSE_CACHE]
    if generation is not None and not all(map(entry.generations[generation], fewer)):
        raise SpecError(f"{told}: --target {target} has no kernel for it on --gpu-generation {generation}.")
    if not context:
        raise SpecError(f"{told}: the cache is not in the budget; say how many tokens it holds with --context.")


def as_searched(
    inventory: Inventory, names: Collection[str], context: int = 1, batch: int = 1, target: str = "packed"
) -> Inventory:
    """Return the inventory whose sites a plan names, its caches for so many tokens where the plan has levels of any."""
    caches = _cache_names(inventory) & {*names}
    found = as_planned(inventory, {*names} - caches)
    can_hold = caches and TARGETS[target].cache_coding
    return with_cache_sites(found, context, batch, target) if can_hold else found


def without_own_type(plan: str, levels: Mapping[str, Level], inventory: Inventory) -> dict[str, Level]:
    """Return the levels of a named plan without caches in their runtime's own type, where caches have no levels here.

    Raises:
        SpecError: it has others.

    """
    unasked = set() if inventory.caches else _cache_names(inventory) & levels.keys()
    if fewer := sorted(name for name in unasked if not levels[name].is_dense):
        raise SpecError(
            f"--plan {plan}: {fewer[0]} is kept as {levels[fewer[0]]} there; search the bits of keys and values too "
            "(--context and --cache-bits), or take these lines out."
        )
    return {name: level for name, level in levels.items() if name not in unasked}


def _cache_names(inventory: Inventory) -> set[str]:
    return {f"{layer.owner}.{part}" for layer in inventory.key_value or () for part in (KEYS, VALUES)}


def _sites(layer: CacheLayer, tokens: int, target: str) -> Iterator[ModuleInfo]:
    size = TARGETS[target].cache_value_bytes or layer.value_bytes
    for part, width in ((KEYS, layer.key_width), (VALUES, layer.value_width)):
        weight = TensorInfo(f"{layer.owner}.{part}", (tokens * layer.heads, width), _TYPES[size])
        yield ModuleInfo(weight.name, "cache", weight, layer.block)
