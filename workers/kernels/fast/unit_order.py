"""How loops read packed rows: in units, the least number of bytes that holds whole symbols.

Columns are taken in planes: the first symbols of all units, then the second ones, and so on. Vectors and unpacked rows
have their columns in that order, so that loops run over neighbours.
"""

import numpy as np

UNITS = {2: (4, 1), 3: (8, 3), 4: (2, 1), 5: (8, 5), 6: (4, 3), 7: (8, 7), 8: (1, 1)}
"""bits -> symbols and bytes of a unit"""

HALF_EXPONENT = np.float32(2.0**112)
"""between the exponents of float16 and of float32: what a number is multiplied with whose bits were moved over"""


def steps_of(bits: int) -> tuple[int, ...]:
    """Return the bytes of a unit in which the lowest bit of each symbol is set."""
    symbols, size = UNITS[bits]
    return tuple(sum(1 << bits * i for i in range(symbols)).to_bytes(size, "little"))
