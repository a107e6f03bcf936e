"""The types of ggml, which GGUF files are made of: columns and bytes of a block, as in llama.cpp's `ggml-common.h`.

A row is a whole number of blocks. Types of 256 columns (K and IQ) are finer than those of 32, and need that number to
divide a row.
"""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GgmlType:
    """One type.

    Attributes:
        name: as ggml writes it.
        number: of `enum ggml_type`.
        columns: of a block.
        block_bytes: of a block.
        is_default: worth trying without being asked for: the others take long to build and lose more than others of
            about their bits.

    """

    name: str
    number: int
    columns: int
    block_bytes: int
    is_default: bool = True

    @property
    def bits_per_weight(self) -> float:
        """Return the stored bits of a value, scales counted."""
        return 8 * self.block_bytes / self.columns

    def row_bytes(self, columns: int) -> int:
        """Return the bytes of a row of so many columns, which blocks divide."""
        assert columns % self.columns == 0  # noqa: S101 (the target's rule)
        return columns // self.columns * self.block_bytes


_ALL = (
    GgmlType("iq1_s", 19, 256, 50, is_default=False),
    GgmlType("iq1_m", 29, 256, 56, is_default=False),
    GgmlType("iq2_xxs", 16, 256, 66),
    GgmlType("iq2_xs", 17, 256, 74),
    GgmlType("iq2_s", 22, 256, 82),
    GgmlType("q2_K", 10, 256, 84),
    GgmlType("iq3_xxs", 18, 256, 98),
    GgmlType("iq3_s", 21, 256, 110),
    GgmlType("q3_K", 11, 256, 110),
    GgmlType("iq4_xs", 23, 256, 136),
    GgmlType("iq4_nl", 20, 32, 18),
    GgmlType("q4_0", 2, 32, 18),
    GgmlType("q4_K", 12, 256, 144),
    GgmlType("q4_1", 3, 32, 20),
    GgmlType("q5_0", 6, 32, 22),
    GgmlType("q5_K", 13, 256, 176),
    GgmlType("q5_1", 7, 32, 24),
    GgmlType("q6_K", 14, 256, 210),
    GgmlType("q8_0", 8, 32, 34),
)
GGML_TYPES = MappingProxyType({entry.name: entry for entry in _ALL})
"""name -> type, by bits"""
DENSE_TYPES = MappingProxyType({"F32": 0, "F16": 1, "BF16": 30})
"""safetensors name of a dense type -> its number"""
