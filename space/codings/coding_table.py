"""All codings by name."""

from space.codings.affine_coding import AFFINE_CODINGS
from space.codings.cache_coding import CACHE_CODINGS
from space.codings.coding import Coding
from space.codings.exl3_coding import EXL3
from space.codings.float4_coding import FLOAT4_CODINGS
from space.codings.float8_coding import FLOAT8
from space.codings.ggml_coding import GGML_CODINGS
from space.codings.integer_coding import INTEGER
from space.codings.trellis_coding import TRELLIS
from space.errors import SpecError

CODINGS: dict[str, Coding] = {
    coding.name: coding
    for coding in (
        *(INTEGER, FLOAT8, TRELLIS, EXL3),
        *(*GGML_CODINGS, *AFFINE_CODINGS, *FLOAT4_CODINGS, *CACHE_CODINGS),
    )
}


def coding_of(name: str) -> Coding:
    """Return the coding of a name. Raises SpecError."""
    if name not in CODINGS:
        raise SpecError(f"{name!r} is no coding; there are {', '.join(CODINGS)}.")
    return CODINGS[name]


def all_bits() -> tuple[int, ...]:
    """Return the bit-widths that some coding of weights stores, rising."""
    return tuple(sorted({bits for coding in CODINGS.values() if coding.holds == "weights" for bits in coding.bits}))
