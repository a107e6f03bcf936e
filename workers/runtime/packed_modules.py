"""Modules that hold packed levels and unpack them on the fly: bytes stay packed in memory.

Shape legend: O out_features or vocabulary, I in_features or hidden.
"""

from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from space.inventory import PACKED
from space.level import Level, parse_level
from space.site import Site
from workers.runtime.packed_tensor import PackedStack, PackedTensor, StandsForTensor
from workers.runtime.packed_values import Packed


class PackedLinear(Packed):
    """A linear layer: unpacks its weight for each call and lets it go again."""

    def __init__(
        self, level: Level, rows: int, columns: int, output_dtype: torch.dtype, bias: nn.Parameter | None = None
    ) -> None:
        """Make empty buffers; `bias` is kept as it is."""
        super().__init__(level, rows, columns, output_dtype)
        self.bias = bias
        self.out_features, self.in_features = rows, columns  # models' code asks for them

    def forward(self, hidden: Tensor) -> Tensor:
        """Return hidden @ weightᵀ + bias; (..., I) in, (..., O) out."""
        return self.linear(hidden, self.bias)


class PackedEmbedding(Packed):
    """An embedding: unpacks only the rows that are looked up; they come out in `output_dtype`."""

    @property
    def num_embeddings(self) -> int:
        """Return the number of rows, for a model's code that asks for it."""
        return self.rows

    @property
    def embedding_dim(self) -> int:
        """Return the number of columns, for a model's code that asks for it."""
        return self.columns

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return (..., I) rows of (...) token ids."""
        unique, inverse = token_ids.unique(return_inverse=True)
        return self.dense_weight(unique)[inverse].to(self.output_dtype)


class TiedHead(nn.Module):
    """A head that reads the packed weight of its embedding; it stores a bias at most."""

    def __init__(self, embedding: Packed, bias: nn.Parameter | None = None) -> None:
        """Refer to the embedding without owning it, so that it appears once in the state dict."""
        super().__init__()
        self.bias = bias
        object.__setattr__(self, "_embedding", embedding)

    @property
    def embedding(self) -> Packed:
        """Return the embedding."""
        embedding: Packed = object.__getattribute__(self, "_embedding")
        return embedding

    @property
    def weight(self) -> Tensor:
        """Return the (vocabulary, I) weight, unpacked anew."""
        return self.embedding.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (..., vocabulary) logits of (..., I) hidden states."""
        return self.embedding.linear(hidden, self.bias)


class TiedEmbedding(nn.Module):
    """An embedding that looks up in another's packed weight; it stores nothing."""

    def __init__(self, embedding: PackedEmbedding) -> None:
        """Refer to the embedding without owning it."""
        super().__init__()
        object.__setattr__(self, "_embedding", embedding)

    @property
    def embedding(self) -> PackedEmbedding:
        """Return the embedding."""
        embedding: PackedEmbedding = object.__getattribute__(self, "_embedding")
        return embedding

    @property
    def weight(self) -> Tensor:
        """Return the (vocabulary, I) weight, unpacked anew."""
        return self.embedding.weight

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return (..., I) rows of (...) token ids."""
        rows: Tensor = self.embedding(token_ids)
        return rows


class _NoWeights(nn.Module):
    """An empty parameter that no file holds: what transformers reads a model's type and device from."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.empty = nn.Parameter(torch.empty(0, dtype=dtype, device=device), requires_grad=False)

    def _save_to_state_dict(self, *_: Any) -> None:
        """Save nothing."""

    def _load_from_state_dict(self, *_: Any) -> None:
        """Miss nothing."""


def keep_parameter(model: nn.Module) -> None:
    """Give a model whose packed modules replaced every parameter an empty one, without which it cannot generate."""
    if any(parameter.is_floating_point() for parameter in model.parameters()):
        return
    embedding = next(module for module in model.modules() if isinstance(module, Packed))
    model.add_module("no_weights", _NoWeights(embedding.output_dtype, next(embedding.buffers()).device))


def install_packed(
    model: nn.Module,
    plan: Mapping[str, str],
    tied: Mapping[str, str],
    parameters: Mapping[str, str] | None = None,
    transposed: Collection[str] = (),
    experts: Mapping[str, int] | None = None,
) -> list[str]:
    """Replace a model's modules and parameters by packed ones, in place; a meta model stays without memory.

    Args:
        model: as built from the config.
        plan: module name -> level text; dense ones stay, and what the model has not is left out.
        tied: name of a head or another embedding -> embedding name.
        parameters: module name -> the parameter that is packed alone, within its module.
        transposed: of these, the modules whose parameter stands as (in, out).
        experts: of these, the modules that are one expert of their parameter, and which.

    Returns:
        the names of those that now read a packed embedding.

    """
    packed: dict[str, Packed] = {}
    _pack_stacks(model, plan, parameters or {}, transposed, experts or {})
    for name, text in plan.items():
        level = parse_level(text)
        parameter = (parameters or {}).get(name)
        if level.is_dense or name in (experts or {}):
            continue
        made = (
            _packed_layer(model, name, level)
            if parameter is None
            else _packed_parameter(model, parameter, level, transposed=name in transposed)
        )
        packed |= {} if made is None else {name: made}
    copies = []
    for copy, owner in tied.items():
        old = _submodule(model, copy)
        if old is not None and owner in packed:
            model.set_submodule(copy, _sharing(old, packed[owner]))
            copies.append(copy)
    return copies


def _packed_layer(model: nn.Module, name: str, level: Level) -> Packed | None:
    """Put a packed module in a plain layer's place."""
    old = _submodule(model, name)
    if old is None:
        return None
    weight = old.get_parameter("weight")
    rows, columns = weight.shape
    new: Packed
    if isinstance(old, nn.Embedding):
        new = PackedEmbedding(level, rows, columns, weight.dtype)
    else:
        new = PackedLinear(level, rows, columns, weight.dtype, getattr(old, "bias", None))
    model.set_submodule(name, new)
    return new


def _packed_parameter(model: nn.Module, name: str, level: Level, *, transposed: bool) -> Packed | None:
    """Put a packed tensor in a parameter's place."""
    owner, _, last = name.rpartition(".")
    module = _submodule(model, owner)
    if module is None or last not in module._parameters:  # noqa: SLF001 (torch has no other way to ask)
        return None
    old = module.get_parameter(last)
    new = PackedTensor(level, Site(name, tuple(old.shape), (), transposed=transposed), old.dtype)
    _put(module, last, new)
    return new


def _pack_stacks(
    model: nn.Module,
    plan: Mapping[str, str],
    parameters: Mapping[str, str],
    transposed: Collection[str],
    experts: Mapping[str, int],
) -> None:
    """Put stacks in place whose experts have levels of their own; those of dense experts stay as they are."""
    stacks: dict[str, dict[int, str]] = {}
    for name, expert in experts.items():
        if not parse_level(plan[name]).is_dense:
            stacks.setdefault(parameters[name], {})[expert] = name
    for parameter, names in stacks.items():
        owner, _, last = parameter.rpartition(".")
        module = _submodule(model, owner)
        if module is None or last not in module._parameters:  # noqa: SLF001 (torch has no other way to ask)
            continue
        old = module.get_parameter(last)
        made = []
        for expert in range(len(old)):
            site = Site(parameter, tuple(old.shape), (), transposed=names[expert] in transposed, expert=expert)
            made.append(PackedTensor(parse_level(plan[names[expert]]), site, old.dtype))
        _put(module, last, PackedStack(made))


def _put(module: nn.Module, last: str, packed: nn.Module) -> None:
    """Put what is packed in a parameter's place: under a name of its own, and where the module's code asks for it."""
    delattr(module, last)
    module.add_module(f"{last}{PACKED}", packed)
    object.__setattr__(module, last, packed)


def _sharing(old: nn.Module, packed: Packed) -> nn.Module:
    """Return what stands for a module whose weight is another's that is packed."""
    if type(old) is nn.Embedding and isinstance(packed, PackedEmbedding):
        return TiedEmbedding(packed)
    if isinstance(old, nn.Embedding) and isinstance(packed, PackedTensor):
        delattr(old, "weight")
        object.__setattr__(old, "weight", packed)  # used, and stored once
        return old
    return TiedHead(packed, getattr(old, "bias", None))


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    with suppress(AttributeError):
        return model.get_submodule(name)
    return None


def use_fast_kernels(model: nn.Module, *, fast: bool) -> None:
    """Let packed modules multiply with their bytes in compiled loops, or unpack their weights exactly."""
    for module in packed_modules(model).values():
        module.is_fast = fast


def packed_modules(model: nn.Module) -> dict[str, Packed]:
    """Return name -> module of those that hold a packed level."""
    return {name: module for name, module in model.named_modules() if isinstance(module, Packed)}


def install_dense(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace packed modules by dense ones of a type, in place: unpacked once and held, at the cost of their memory."""
    kinds = PackedLinear | PackedEmbedding | StandsForTensor | TiedHead | TiedEmbedding
    inside = {id(e) for m in model.modules() if isinstance(m, PackedStack) for e in m.experts}
    packed = [(n, m) for n, m in model.named_modules() if isinstance(m, kinds) and id(m) not in inside]
    weights: dict[int, nn.Parameter] = {}
    for name, module in packed:
        source = module.embedding if isinstance(module, TiedHead | TiedEmbedding) else module
        if id(source) not in weights:
            dense = source.tensor() if isinstance(source, StandsForTensor) else source.dense_weight()
            weights[id(source)] = nn.Parameter(dense.to(dtype), requires_grad=False)
        if isinstance(module, StandsForTensor):
            owner, _, last = name.removesuffix(PACKED).rpartition(".")
            delattr(model.get_submodule(owner), f"{last}{PACKED}")
            delattr(model.get_submodule(owner), last)
            model.get_submodule(owner).register_parameter(last, weights[id(source)])
        else:
            model.set_submodule(name, _dense(module, weights[id(source)]))
    if hasattr(model, "no_weights"):
        del model.no_weights


def _dense(module: PackedLinear | PackedEmbedding | TiedHead | TiedEmbedding, weight: nn.Parameter) -> nn.Module:
    rows, columns = weight.shape
    if isinstance(module, PackedEmbedding | TiedEmbedding):
        embedding = nn.Embedding(rows, columns, device="meta")
        embedding.weight = weight
        return embedding
    linear = nn.Linear(columns, rows, bias=False, device="meta")
    linear.weight = weight
    linear.register_parameter("bias", module.bias)
    return linear
