"""Affine integers of MLX: values 0 to 2^bits - 1 of a group, times its scale, plus its bias.

    qweight  uint8 (out, in * bits / 8)     one little-endian bit stream per row; MLX reads it as words of 32 bits
    scales   bfloat16 (out, in / group)
    biases   bfloat16 (out, in / group)     what the value 0 stands for

Each size of a group is a coding of its own, since levels with groups have scales alone.
"""

from functools import partial

from space.codings.coding import Coding, bit_stream
from space.inventory import TensorInfo

GROUP_SIZES = (64, 32, 128)
"""what MLX has, its usual one first"""
_BITS = (2, 3, 4, 5, 6, 8)
_BITS_OF_GROUP = 32  # a scale and a bias


def _layout(size: int, rows: int, columns: int, bits: int) -> tuple[TensorInfo, ...]:
    groups = rows, columns // size
    values = bit_stream(rows, columns, bits)
    return (*values, TensorInfo("scales", groups, "BF16"), TensorInfo("biases", groups, "BF16"))


def _fits(size: int, _: int, columns: int) -> bool:
    return columns % size == 0


def _coding(size: int) -> Coding:
    return Coding(
        name=f"affine-g{size}",
        mark="",
        bits=_BITS,
        has_groups=False,
        layout=partial(_layout, size),
        texts={bits: f"b{bits}-g{size}-z" for bits in _BITS},
        fits=partial(_fits, size),
        rate=lambda bits: bits + _BITS_OF_GROUP / size,
    )


AFFINE_CODINGS = tuple(map(_coding, GROUP_SIZES))
GROUP_OF = {coding.name: size for coding, size in zip(AFFINE_CODINGS, GROUP_SIZES, strict=True)}
"""coding -> columns of a group"""
