"""Symmetric integers in [-2^(bits-1), 2^(bits-1) - 1] times the scale of their group."""

from space.codings.coding import BITS, Coding, bit_stream

INTEGER = Coding(
    name="integer",
    mark="",
    bits=BITS,
    has_groups=True,
    layout=bit_stream,
    input_formats={"int8": (8,), "int8-block": (2, 4, 8)},
)
