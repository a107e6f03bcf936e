"""Types of ggml as codings: each stands alone, with the blocks and the scales that llama.cpp has for it."""

from functools import partial

from space.codings.coding import Coding
from space.codings.ggml_types import GGML_TYPES, GgmlType
from space.inventory import TensorInfo

_WIDE = 256


def _layout(entry: GgmlType, rows: int, columns: int, _: int) -> tuple[TensorInfo, ...]:
    return (TensorInfo("blocks", (rows, entry.row_bytes(columns)), "U8"),)


def _fits(entry: GgmlType, _: int, columns: int) -> bool:
    return columns % entry.columns == 0


def _coding(entry: GgmlType) -> Coding:
    bits = int(entry.name.removeprefix("i")[1])
    return Coding(
        name=entry.name,
        mark="",
        bits=(bits,),
        has_groups=False,
        layout=partial(_layout, entry),
        texts={bits: entry.name},
        fits=partial(_fits, entry),
        rate=lambda _: entry.bits_per_weight,
        inputs="q8_K" if entry.columns == _WIDE else "q8_0",
    )


GGML_CODINGS = tuple(map(_coding, GGML_TYPES.values()))
"""By bits."""
