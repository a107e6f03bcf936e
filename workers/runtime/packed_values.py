"""Packed levels in memory: buffers that keep their bits, and are unpacked when somebody asks for the weight.

Shape legend: O out_features or vocabulary, I in_features or hidden.
"""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from space.level import Level
from space.targets.packed_target import packed_layout
from workers.kernels.fast.fast_product import FastProduct, fast_product
from workers.kernels.unpack import unpack

_DTYPES = {
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
}
_SAME_BITS = {torch.float16: torch.int16, torch.bfloat16: torch.int16, torch.float32: torch.int32}


def packed_shapes(level: Level, rows: int, columns: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    """Return name -> (shape, dtype) of a level's stored tensors, for a (rows, columns) weight."""
    return {info.name: (info.shape, _DTYPES[info.dtype]) for info in packed_layout(rows, columns, level)}


class Packed(nn.Module):
    """Buffers of one packed level.

    Attributes:
        is_fast: activations on a CPU are multiplied with the packed bytes, which rounds otherwise than the plain path;
            without gradients only.

    """

    is_fast = False

    def __init__(self, level: Level, rows: int, columns: int, output_dtype: torch.dtype) -> None:
        super().__init__()
        self.level, self.rows, self.columns, self.output_dtype = level, rows, columns, output_dtype
        for name, (shape, dtype) in packed_shapes(level, rows, columns).items():
            self.register_buffer(name, torch.empty(shape, dtype=dtype))
        self._known: tuple[Tensor | None, FastProduct | None] = None, None

    def linear(self, hidden: Tensor, bias: Tensor | None) -> Tensor:
        """Return hidden @ weightᵀ + bias; (..., I) in, (..., O) out."""
        fast = self._fast() if self.is_fast and _is_plain(hidden) else None
        if fast is None:
            return nn.functional.linear(hidden, self.dense_weight().to(hidden.dtype), bias)
        found = fast(hidden.reshape(-1, self.columns).float().contiguous())
        found = (found if bias is None else found.add_(bias)).view(*hidden.shape[:-1], self.rows)
        return found.to(hidden.dtype)

    def _fast(self) -> FastProduct | None:
        """Return the loops that multiply with what the buffers hold now."""
        first = next(iter(self._buffers.values()))
        if first is not self._known[0]:
            self._known = first, fast_product(dict(self.named_buffers()), self.level, self.columns)
        return self._known[1]

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy is made of: its loops are found anew."""
        return {**self.__dict__, "_known": (None, None)}

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
        """Return what is shown of it beside its class."""
        return f"{self.rows}, {self.columns}, level={self.level}"


def _is_plain(hidden: Tensor) -> bool:
    """Tell whether compiled loops may read a tensor."""
    is_traced = torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None  # noqa: SLF001
    return hidden.device.type == "cpu" and not is_traced and not (hidden.requires_grad and torch.is_grad_enabled())
