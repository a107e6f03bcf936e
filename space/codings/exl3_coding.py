"""Tiles of 16 x 16 symbols of a trellis of 65,536 states, of a weight that is turned on both sides: as EXL3 holds them.

    trellis   int16 (in / 16, out / 16, 16 * bits)   a tile's symbols, its first bit the highest of its first 32
    suh, svh  float16 (in,), (out,)                  scales of inputs and of outputs, with signs
    mul1      int32 ()                               the multiplier of the codebook, which names it

Names, shapes and bytes are those of exllamav3's files (1.6.5, codebook `mul1`).
"""

from space.codings.coding import Coding
from space.inventory import TensorInfo

_BLOCK = 128  # inputs, and outputs, that turn together
_TILE = 16
_VALUES_PER_SECOND = {1: 13e3, 2: 19e3, 3: 22e3, 4: 24e3, 5: 24e3, 6: 27e3, 7: 27e3, 8: 37e3}
"""of one core (`benchmarks/results/exl3_encoder.json`)"""


def _layout(rows: int, columns: int, bits: int) -> tuple[TensorInfo, ...]:
    return (
        TensorInfo("trellis", (columns // _TILE, rows // _TILE, _TILE * bits), "I16"),
        TensorInfo("suh", (columns,), "F16"),
        TensorInfo("svh", (rows,), "F16"),
        TensorInfo("mul1", (), "I32"),
    )


def _fits(rows: int, columns: int) -> bool:
    return rows % _BLOCK == 0 and columns % _BLOCK == 0


EXL3 = Coding(
    name="exl3",
    mark="",
    bits=(1, 2, 3, 4, 5, 6, 7, 8),
    has_groups=False,
    layout=_layout,
    texts={bits: f"exl3-{bits}" for bits in range(1, 9)},
    fits=_fits,
    seconds_per_value={bits: 1 / speed for bits, speed in _VALUES_PER_SECOND.items()},
)
