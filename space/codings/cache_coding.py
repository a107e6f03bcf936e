"""Keys and values of attention, as runtimes remember them: a row is what one head of one token has.

`cache` is our own reader's: codes in one bit stream, a float16 step and least value, `low`: a value is
`low + step * code`. The others are what runtimes can be told: ggml's blocks of 32 values, MLX's affine groups of 64 (of
32 where 64 does not divide a row), and vLLM's 8-bit floats, E4M3, whose scale is 1.
"""

from space.codings.coding import Coding, bit_stream
from space.codings.ggml_types import GGML_TYPES
from space.inventory import TensorInfo

GGML_CACHE_TYPES = {4: "q4_0", 5: "q5_1", 8: "q8_0"}
"""bits -> the type of ggml that llama.cpp is told"""
_MLX_GROUPS = (64, 32)


def mlx_group(columns: int) -> int | None:
    """Return how many values of a row share a scale and a bias in MLX; None: it cannot hold such rows."""
    return next((size for size in _MLX_GROUPS if columns % size == 0), None)


def _stepped(rows: int, columns: int, bits: int) -> tuple[TensorInfo, ...]:
    return *bit_stream(rows, columns, bits), TensorInfo("scale", (rows, 1), "F16"), TensorInfo("low", (rows, 1), "F16")


def _blocks(rows: int, columns: int, bits: int) -> tuple[TensorInfo, ...]:
    return (TensorInfo("blocks", (rows, GGML_TYPES[GGML_CACHE_TYPES[bits]].row_bytes(columns)), "U8"),)


def _affine(rows: int, columns: int, bits: int) -> tuple[TensorInfo, ...]:
    groups = rows, columns // (mlx_group(columns) or columns)
    return *bit_stream(rows, columns, bits), TensorInfo("scales", groups, "BF16"), TensorInfo("biases", groups, "BF16")


CACHE = Coding(
    name="cache",
    mark="",
    bits=(2, 4, 8),
    has_groups=False,
    layout=_stepped,
    texts={bits: f"kv{bits}" for bits in (2, 4, 8)},
    holds="cache",
)
GGML_CACHE = Coding(
    name="ggml-cache",
    mark="",
    bits=tuple(GGML_CACHE_TYPES),
    has_groups=False,
    layout=_blocks,
    texts={bits: f"kv-{name}" for bits, name in GGML_CACHE_TYPES.items()},
    fits=lambda _, columns: columns % GGML_TYPES["q8_0"].columns == 0,
    holds="cache",
)
MLX_CACHE = Coding(
    name="mlx-cache",
    mark="",
    bits=(2, 4, 8),
    has_groups=False,
    layout=_affine,
    texts={bits: f"kv{bits}-z" for bits in (2, 4, 8)},
    fits=lambda _, columns: mlx_group(columns) is not None,
    holds="cache",
)
FLOAT8_CACHE = Coding(
    name="float8-cache",
    mark="",
    bits=(8,),
    has_groups=False,
    layout=lambda rows, columns, _: (TensorInfo("values", (rows, columns), "F8_E4M3"),),
    texts={8: "kv8-f"},
    holds="cache",
)
CACHE_CODINGS = (CACHE, GGML_CACHE, MLX_CACHE, FLOAT8_CACHE)
CACHE_BITS = tuple(sorted({bits for coding in CACHE_CODINGS for bits in coding.bits}))
"""what some runtime has"""
