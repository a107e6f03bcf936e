"""Floats of 8 bits, as GPUs multiply with them: a sign, 4 bits of exponent, 3 of mantissa (E4M3), and a scale a row.

The largest is 448, there is no infinity, and the least step is 2^-9: `torch.float8_e4m3fn`, arXiv 2209.05433.
"""

from space.codings.coding import Coding, bit_stream

LARGEST = 448.0
FLOAT8 = Coding(
    name="float8", mark="-f", bits=(8,), has_groups=False, layout=bit_stream, input_formats={"float8": (8,)}
)
