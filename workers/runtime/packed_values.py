"""Packed levels in memory: buffers that keep their bits, and are unpacked when somebody asks for the weight.

Shape legend: O out_features or vocabulary, I in_features or hidden.
"""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from space.level import Level
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


class Packed(nn.Module):
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
        """Return what is shown of it beside its class."""
        return f"{self.rows}, {self.columns}, level={self.level}"
