"""Floats of 4 bits in groups, as GPUs multiply with them: a sign, 2 bits of exponent, 1 of mantissa (E2M1), and scales.

    qweight  uint8 (out, in / 2)       two codes a byte, the lower bits first; the sign is the highest bit of a code
    scale    uint8 (out, in / group)   NVFP4: a float of 8 bits (E4M3), times UNIT; MXFP4: the exponent of 2, plus 127

NVFP4 has groups of 16 and a factor of the whole weight beside them (NVIDIA, "Introducing NVFP4", 2025). Runtimes give
fused layers one factor, and so ours is the same for all: UNIT, a power of two, so that every weight is a bfloat16 to
the bit. Scales reach from 2^-19 to 0.4375; a group with larger values than 2.6 is cut off, which its error tells.
MXFP4 has groups of 32 (OCP Microscaling Formats 1.0, section 5).
"""

from functools import partial

from space.codings.coding import Coding
from space.inventory import TensorInfo

VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""what the codes of no sign stand for"""
LARGEST = VALUES[-1]
UNIT = 2.0**-10
INPUT_UNIT = 2.0**-2
"""of NVFP4's scales of inputs: groups whose largest is from 0.003 to 672"""
_BITS, _BITS_OF_SCALE = 4, 8


def _layout(size: int, rows: int, columns: int, _: int) -> tuple[TensorInfo, ...]:
    return TensorInfo("qweight", (rows, columns // 2), "U8"), TensorInfo("scale", (rows, columns // size), "U8")


def _fits(size: int, _: int, columns: int) -> bool:
    return columns % size == 0


def _coding(name: str, size: int, inputs: str) -> Coding:
    return Coding(
        name=name,
        mark="",
        bits=(_BITS,),
        has_groups=False,
        layout=partial(_layout, size),
        texts={_BITS: name},
        fits=partial(_fits, size),
        rate=lambda bits: bits + _BITS_OF_SCALE / size,
        inputs=inputs,
    )


FLOAT4_GROUPS = {"nvfp4": 16, "nvfp4-a4": 16, "mxfp4": 32}
"""coding -> columns of a group"""
_INPUTS = {"nvfp4-a4": "nvfp4"}
FLOAT4_CODINGS = tuple(_coding(name, size, _INPUTS.get(name, "")) for name, size in FLOAT4_GROUPS.items())
NVFP4, NVFP4_BOTH, MXFP4 = FLOAT4_CODINGS
