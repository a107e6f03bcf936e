"""What a model consists of: its compressible modules and every other stored tensor, by name, shape and bytes."""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Literal

from space.site import Carried, Site

PACKED = "_packed"
"""what stands behind a parameter's name where it is packed alone"""
ModuleKind = Literal["linear", "embedding", "cache"]
ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "U32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
    "F8_E4M3": 1,  # in exports; a model that has it is refused
}


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One stored tensor: `dtype` is the safetensors name, such as `BF16`."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def num_elements(self) -> int:
        """Return the number of values."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Return the stored size in bytes, without the container's header."""
        return self.num_elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """One compressible weight; `weight` is (out_features, in_features) or (vocabulary, hidden) of an embedding.

    Attributes:
        name: dotted name as in `named_modules`; of a parameter, where that is no module's `weight`.
        kind: "linear", "embedding", or "cache": keys or values of a layer, whose `weight` is no stored tensor but what
            is remembered: a row for each head of each token.
        weight: the stored weight tensor; of a site, its parameter as a matrix.
        block: index of the transformer block it lives in, or None outside the blocks.
        tied: names of modules that use the same stored weight (a tied head).
        initialised: the model's class looks at its weight while it is loaded, even where that is none of the format's.
        site: what it is, where it is not the weight of a plain layer that is stored under its own name.

    """

    name: str
    kind: ModuleKind
    weight: TensorInfo
    block: int | None = None
    tied: tuple[str, ...] = ()
    site: Site | None = None
    initialised: bool = False

    @property
    def parameter(self) -> str:
        """Return the name of its weight in the model."""
        return f"{self.name}.weight" if self.site is None else self.site.parameter

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the names of the stored tensors that hold it."""
        return (self.weight.name,) if self.site is None else self.site.sources

    @property
    def is_layer(self) -> bool:
        """Tell whether it is all of a plain linear layer or embedding, its bias aside."""
        return self.site is None or self.site.is_layer

    @property
    def is_one_expert(self) -> bool:
        """Tell whether it is one expert's part of a stack, with levels of its own."""
        return self.site is not None and self.site.expert is not None

    @property
    def has_dense_form(self) -> bool:
        """Tell whether files can hold it as it was, whatever becomes of others.

        A stack whose experts are apart is dense as a whole or not at all, and codes are read as their values.
        """
        return not self.is_one_expert and (self.site is None or self.site.stored_as is None)

    @property
    def prefix(self) -> str:
        """Return what the names of its tensors begin with where it is packed, so that nothing is converted."""
        if self.is_layer:
            return self.name
        expert = None if self.site is None else self.site.expert
        return f"{self.parameter}{PACKED}" + ("" if expert is None else f".{expert}")

    @property
    def module_type(self) -> str:
        """Return the last part of the name, such as `q_proj`; that of its stack where it is one expert's."""
        return (self.parameter if self.is_one_expert else self.name).rpartition(".")[2]

    @property
    def out_features(self) -> int:
        """Return the number of rows."""
        return self.weight.shape[0]

    @property
    def in_features(self) -> int:
        """Return the number of columns."""
        return self.weight.shape[1]


@dataclass(frozen=True, slots=True)
class CacheLayer:
    """What one layer remembers of a sequence.

    Attributes:
        token_bytes: for each token.
        window: tokens that it remembers at most; None: all.
        fixed_bytes: however long the sequence is (the state of a recurrent layer).
        value_bytes: of one of the values of `token_bytes`.
        owner: name of the attention that hands over keys and values of all tokens and remembers nothing else; None: it
            is none, or not known to be one.
        block: the block that it is in.
        heads: of these keys and values.
        key_width, value_width: of a head.

    """

    token_bytes: int
    window: int | None = None
    fixed_bytes: int = 0
    value_bytes: int = 2
    owner: str | None = None
    block: int | None = None
    heads: int = 0
    key_width: int = 0
    value_width: int = 0

    @property
    def is_plain(self) -> bool:
        """Tell whether it is plain keys and values, which may have levels."""
        return self.owner is not None

    def size_bytes(self, context: int) -> int:
        """Return the bytes after so many tokens."""
        return self.fixed_bytes + self.token_bytes * min(context, self.window or context)


@dataclass(frozen=True, slots=True)
class Inventory:
    """A model as the search sees it.

    Attributes:
        modules: compressible modules in forward order.
        others: stored tensors that are left alone (norms, biases, ...).
        key_value: the layers of the key/value cache, or None where the model does not tell them.
        num_blocks: number of transformer blocks.
        vocabulary: rows of the input embedding; None: not known.
        num_positions: most tokens of a sequence; None: the config does not tell.
        first_token: what the config says that a sequence begins with, if anything.
        family: the name of its kind (see `workers/families/family_table.py`).
        experts_per_token: experts that a token is sent to; None: there are none, or the config does not tell.
        carried: those of `others` that no part of the searched model is, and why.
        caches: keys and values that may have levels; what they take is not in `key_value`, and in no file.
        merged: a parameter that transformers makes of several stored tensors as it loads; None: there is none.

    """

    modules: tuple[ModuleInfo, ...]
    others: tuple[TensorInfo, ...]
    key_value: tuple[CacheLayer, ...] | None
    num_blocks: int
    vocabulary: int | None = None
    num_positions: int | None = None
    first_token: int | None = None
    family: str = "causal-decoder"
    carried: tuple[Carried, ...] = ()
    experts_per_token: int | None = None
    caches: tuple[ModuleInfo, ...] = ()
    merged: str | None = None

    @property
    def sites(self) -> tuple[ModuleInfo, ...]:
        """Return all that has a level: modules, and caches behind those of their block."""
        if not self.caches:
            return self.modules
        last = {module.block: module.name for module in self.modules}
        behind = {last[b]: tuple(c for c in self.caches if c.block == b) for b in {c.block for c in self.caches}}
        return tuple(site for module in self.modules for site in (module, *behind.get(module.name, ())))

    @property
    def num_parameters(self) -> int:
        """Return the number of stored values, tied weights once."""
        return sum(m.weight.num_elements for m in self.modules) + sum(t.num_elements for t in self.others)

    @property
    def dense_bytes(self) -> int:
        """Return the bytes of the dense checkpoint's tensors, tied weights once."""
        return sum(m.weight.size_bytes for m in self.modules) + self.others_bytes

    @property
    def cache_bytes(self) -> int:
        """Return the bytes of the keys and values that may have levels, in the type of the runtime."""
        return sum(cache.weight.size_bytes for cache in self.caches)

    @property
    def others_bytes(self) -> int:
        """Return the bytes of the tensors that are left alone."""
        return sum(t.size_bytes for t in self.others)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "Inventory":
        """Read a JSON object."""
        modules = tuple(map(_module, value["modules"]))
        cache = value["key_value"]
        layers = None if cache is None else tuple(CacheLayer(**layer) for layer in cache)
        carried = tuple(Carried(**entry) for entry in value.get("carried", ()))
        others, caches = tuple(map(_tensor, value["others"])), tuple(map(_module, value.get("caches", ())))
        parts = {"modules": modules, "others": others, "key_value": layers, "carried": carried, "caches": caches}
        return Inventory(**{**value, **parts})

    def module(self, name: str) -> ModuleInfo:
        """Return a module, or a cache, by name."""
        return next(m for m in self.sites if m.name == name)


def _module(value: Mapping[str, Any]) -> ModuleInfo:
    weight, site = _tensor(value["weight"]), Site.from_json(value.get("site"))
    return ModuleInfo(**{**value, "weight": weight, "tied": tuple(value["tied"]), "site": site})


def _tensor(value: Mapping[str, Any]) -> TensorInfo:
    return TensorInfo(value["name"], tuple(value["shape"]), value["dtype"])


def with_experts_apart(inventory: Inventory) -> Inventory:
    """Return an inventory with one site for each expert in the place of each stack; no others are changed."""
    modules = tuple(part for module in inventory.modules for part in _parts(module))
    return replace(inventory, modules=modules)


def as_planned(inventory: Inventory, names: Collection[str]) -> Inventory:
    """Return the inventory whose sites a plan names: of the experts of a stack together, or of each apart."""
    return inventory if {m.name for m in inventory.modules} >= set(names) else with_experts_apart(inventory)


def has_stacks(inventory: Inventory) -> bool:
    """Tell whether some sites are stacks of experts that share a level."""
    return any(len(_parts(module)) > 1 for module in inventory.modules)


def _parts(module: ModuleInfo) -> list[ModuleInfo]:
    site = module.site
    if site is None or site.num_experts is None or site.expert is not None:
        return [module]
    by_expert, parts = _sources(site.sources, site.num_experts), []
    for expert in range(site.num_experts):
        own = replace(site, expert=expert, sources=by_expert[expert] if by_expert else site.sources)
        weight = TensorInfo(module.weight.name, own.matrix_shape, module.weight.dtype)
        parts.append(replace(module, name=f"{module.name}.{expert}", weight=weight, site=own))
    return parts


def _sources(sources: tuple[str, ...], num_experts: int) -> list[tuple[str, ...]] | None:
    """Return the stored tensors of each expert; None where all experts are stored in the same ones.

    >>> _sources(("e.0.up", "e.1.up", "e.0.gate", "e.1.gate"), 2)
    [('e.0.up', 'e.0.gate'), ('e.1.up', 'e.1.gate')]
    >>> _sources(("block.1.experts",), 2)
    """
    found: dict[int, list[str]] = {}
    for name in sources:
        numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", name)
        if numbers:
            found.setdefault(int(numbers[-1]), []).append(name)
    is_whole = sorted(found) == list(range(num_experts)) and len({len(names) for names in found.values()}) == 1
    return [tuple(found[expert]) for expert in range(num_experts)] if is_whole else None
