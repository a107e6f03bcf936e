"""Versions of the parts that make levels; apart from them, so that naming a level needs no torch.

They count up together: a part whose results change takes the next number that none has had, so that the newest of some
parts rises whenever one of them changes. So a level is known by the newest of its parts, and a plan by the newest of
its levels; what has no part that changed keeps its name, and stays known.
"""

from collections.abc import Iterable

from space.codings.affine_coding import GROUP_OF
from space.codings.cache_coding import CACHE_CODINGS
from space.codings.float4_coding import FLOAT4_GROUPS
from space.codings.ggml_types import GGML_TYPES
from space.level import Level, parse_level

BUILDERS = {
    "integer": 8,
    "float8": 7,
    "trellis": 9,
    "exl3": 3,
    **dict.fromkeys((coding.name for coding in CACHE_CODINGS), 8),
    **dict.fromkeys(GGML_TYPES, 8),
    **dict.fromkeys(GROUP_OF, 9),
    **dict.fromkeys(FLOAT4_GROUPS, 9),
}
"""coding -> version of its builder and layout; of a cache, of how it is rounded"""
SLOTS = {"transform": 1, "mask": 1, "correction": 1, "inputs": 1}
"""other slot of a level -> version of what fills it"""
MEASURED_AS_IT_IS = 1
"""of a dense weight"""


def level_version(level: Level) -> int:
    """Return the newest version of the parts that make a level."""
    if level.is_dense:
        return MEASURED_AS_IT_IS
    used = {"transform": level.rotated, "mask": level.sparsity > 0, "correction": level.rank > 0}
    used["inputs"] = bool(level.inputs)
    return max(BUILDERS[level.coding], *(version for slot, version in SLOTS.items() if used[slot]), MEASURED_AS_IT_IS)


def newest_version(levels: Iterable[Level]) -> int:
    """Return the newest version of the parts that make some levels."""
    return max(map(level_version, levels), default=MEASURED_AS_IT_IS)


def version_of_texts(texts: Iterable[str]) -> int:
    """Return the newest version of levels given by their texts, as a plan has them."""
    if set(every_version()) == {MEASURED_AS_IT_IS}:
        return MEASURED_AS_IT_IS
    return max(map(_version_of_text, set(texts)), default=MEASURED_AS_IT_IS)


def every_version() -> tuple[int, ...]:
    """Return the versions that a plan may have, rising."""
    return tuple(sorted({MEASURED_AS_IT_IS, *BUILDERS.values(), *SLOTS.values()}))


def _version_of_text(text: str) -> int:
    return level_version(parse_level(text))
