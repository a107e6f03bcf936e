"""Symmetric integers in [-2^(bits-1), 2^(bits-1) - 1] times the scale of their group."""

from space.codings.coding import Coding, bit_stream

INTEGER = Coding(name="integer", mark="", bits=(2, 3, 4, 5, 6, 7, 8), has_groups=True, layout=bit_stream)
