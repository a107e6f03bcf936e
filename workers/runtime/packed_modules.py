"""Modules that hold packed levels and unpack them on the fly: bytes stay packed in memory.

Shape legend: O out_features or vocabulary, I in_features or hidden.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Self

import torch
from torch import Tensor, nn

from space.level import Level, parse_level
from space.targets.packed_target import packed_layout
from workers.kernels.unpack import unpack

_DTYPES = {
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "F16": torch.float16,
    "F32": torch.float32,
}
_SAME_BITS = {torch.float16: torch.int16, torch.float32: torch.int32}


def packed_shapes(level: Level, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return name -> (shape, dtype) of a level's stored tensors, for a (rows, columns) weight."""
    return {info.name: (info.shape, _DTYPES[info.dtype]) for info in packed_layout(rows, columns, level)}


class _Packed(nn.Module):
    """Buffers of one packed level."""

    def __init__(self, level: Level, rows: int, columns: int, output_dtype: torch.dtype) -> None:
        super().__init__()
        self.level, self.rows, self.columns, self.output_dtype = level, rows, columns, output_dtype
        for name, (shape, dtype) in packed_shapes(level, rows, columns).items():
            self.register_buffer(name, torch.empty(shape, dtype=dtype))

    @property
    def weight(self) -> Tensor:
        """Return the (O, I) weight, unpacked anew, for a model's code that reads it or asks for its type.

        It is marked as loaded, so that transformers does not draw a random one in its place.
        """
        weight = self.dense_weight().to(self.output_dtype)
        weight._is_hf_initialized = True  # type: ignore[attr-defined]  # noqa: SLF001 (transformers' own mark)
        return weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:  # noqa: FBT001, FBT002 (torch's)
        """Move or convert; what is stored keeps its bits, and a new type is the one that weights come out in."""
        some = torch.empty(0, dtype=self.output_dtype, device=next(self.buffers()).device)
        self.output_dtype = fn(some).dtype

        def without_rounding(tensor: Tensor) -> Tensor:
            if isinstance(tensor, nn.Parameter) or not tensor.is_floating_point():
                return fn(tensor)
            return fn(tensor.view(_SAME_BITS[tensor.dtype])).view(tensor.dtype)

        super()._apply(without_rounding, recurse)  # type: ignore[no-untyped-call]
        return self

    def dense_weight(self, rows: Tensor | None = None) -> Tensor:
        """Return the (O, I) float32 weight, or only some of its rows."""
        return unpack(dict(self.named_buffers()), self.level, self.columns, rows)

    def extra_repr(self) -> str:
        return f"{self.rows}, {self.columns}, level={self.level}"


class PackedLinear(_Packed):
    """A linear layer: unpacks its weight for each call and lets it go again."""

    def __init__(
        self, level: Level, rows: int, columns: int, output_dtype: torch.dtype, bias: nn.Parameter | None = None
    ) -> None:
        """Make empty buffers; `bias` is kept as it is."""
        super().__init__(level, rows, columns, output_dtype)
        self.bias = bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Return hidden @ weightᵀ + bias; (..., I) in, (..., O) out."""
        return nn.functional.linear(hidden, self.dense_weight().to(hidden.dtype), self.bias)


class PackedEmbedding(_Packed):
    """An embedding: unpacks only the rows that are looked up; they come out in `output_dtype`."""

    def forward(self, token_ids: Tensor) -> Tensor:
        """Return (..., I) rows of (...) token ids."""
        unique, inverse = token_ids.unique(return_inverse=True)
        return self.dense_weight(unique)[inverse].to(self.output_dtype)


class TiedHead(nn.Module):
    """A head that reads the packed weight of its embedding; it stores a bias at most."""

    def __init__(self, embedding: PackedEmbedding, bias: nn.Parameter | None = None) -> None:
        """Refer to the embedding without owning it, so that it appears once in the state dict."""
        super().__init__()
        self.bias = bias
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

    def forward(self, hidden: Tensor) -> Tensor:
        """Return (..., vocabulary) logits of (..., I) hidden states."""
        return nn.functional.linear(hidden, self.embedding.dense_weight().to(hidden.dtype), self.bias)


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
    embedding = next(module for module in model.modules() if isinstance(module, PackedEmbedding))
    model.add_module("no_weights", _NoWeights(embedding.output_dtype, next(embedding.buffers()).device))


def install_packed(model: nn.Module, plan: Mapping[str, str], tied: Mapping[str, str]) -> list[str]:
    """Replace a model's modules by packed ones, in place; a meta model stays without memory.

    Args:
        model: as built from the config.
        plan: module name -> level text; dense ones stay, and what the model has not is left out.
        tied: head name -> embedding name.

    Returns:
        the heads that now read a packed embedding.

    """
    for name, text in plan.items():
        level, old = parse_level(text), _submodule(model, name)
        if level.is_dense or old is None:
            continue
        weight: Tensor = getattr(old, "weight")  # noqa: B009 (linear or embedding)
        rows, columns = weight.shape
        if isinstance(old, nn.Embedding):
            new: nn.Module = PackedEmbedding(level, rows, columns, weight.dtype)
        else:
            new = PackedLinear(level, rows, columns, weight.dtype, getattr(old, "bias", None))
        model.set_submodule(name, new)
    heads = []
    for head, embedding_name in tied.items():
        old, embedding = _submodule(model, head), _submodule(model, embedding_name)
        if old is not None and isinstance(embedding, PackedEmbedding):
            model.set_submodule(head, TiedHead(embedding, getattr(old, "bias", None)))
            heads.append(head)
    return heads


def _submodule(model: nn.Module, name: str) -> nn.Module | None:
    with suppress(AttributeError):
        return model.get_submodule(name)
    return None


def packed_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return name -> module of those that hold a packed level."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _Packed)}


def install_dense(model: nn.Module, dtype: torch.dtype) -> None:
    """Replace packed modules by dense ones of a type, in place: unpacked once and held, at the cost of their memory."""
    packed = [(n, m) for n, m in model.named_modules() if isinstance(m, PackedLinear | PackedEmbedding | TiedHead)]
    weights: dict[int, nn.Parameter] = {}
    for name, module in packed:
        source = module.embedding if isinstance(module, TiedHead) else module
        if id(source) not in weights:
            weights[id(source)] = nn.Parameter(source.dense_weight().to(dtype), requires_grad=False)
        model.set_submodule(name, _dense(module, weights[id(source)]))
    if hasattr(model, "no_weights"):
        del model.no_weights


def _dense(module: PackedLinear | PackedEmbedding | TiedHead, weight: nn.Parameter) -> nn.Module:
    rows, columns = weight.shape
    if isinstance(module, PackedEmbedding):
        embedding = nn.Embedding(rows, columns, device="meta")
        embedding.weight = weight
        return embedding
    linear = nn.Linear(columns, rows, bias=False, device="meta")
    linear.weight = weight
    linear.register_parameter("bias", module.bias)
    return linear
