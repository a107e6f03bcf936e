"""Keys and values of attention: integers of each head of each token, between their least and their largest value.

A row is what one head of one token has, `columns` values. It is stored as its codes in one bit stream, and a float16
step and least value, `low`: a value is `low + step * code`.
"""

from space.codings.coding import Coding, bit_stream
from space.inventory import TensorInfo

CACHE_BITS = (2, 4, 8)


def _layout(rows: int, columns: int, bits: int) -> tuple[TensorInfo, ...]:
    return *bit_stream(rows, columns, bits), TensorInfo("scale", (rows, 1), "F16"), TensorInfo("low", (rows, 1), "F16")


CACHE = Coding(
    name="cache",
    mark="",
    bits=CACHE_BITS,
    has_groups=False,
    layout=_layout,
    texts={bits: f"kv{bits}" for bits in CACHE_BITS},
    holds="cache",
)
