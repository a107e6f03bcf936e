"""Symbols of a trellis over 2^(bits + 1) values, times the scale of their row; the codebook follows from the bits."""

from space.codings.coding import BITS, Coding, bit_stream

TRELLIS = Coding(name="trellis", mark="-t", bits=BITS, has_groups=False, layout=bit_stream)
