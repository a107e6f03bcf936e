"""All builders by the name of their coding."""

from collections.abc import Iterable

from space.codings.affine_coding import GROUP_OF
from space.codings.float4_coding import FLOAT4_GROUPS
from space.codings.ggml_types import GGML_TYPES
from space.level import Level
from workers.compress.builders.affine_builder import AFFINE_BUILDER
from workers.compress.builders.builder import Builder, WholeBuilder
from workers.compress.builders.exl3_builder import EXL3_BUILDER
from workers.compress.builders.float4_builder import FLOAT4_BUILDER
from workers.compress.builders.float8_builder import FLOAT8_BUILDER
from workers.compress.builders.ggml_builder import GGML_BUILDER
from workers.compress.builders.integer_builder import INTEGER_BUILDER
from workers.compress.builders.trellis_builder import TRELLIS_BUILDER
from workers.compress.module_statistics import Need

BUILDERS: dict[str, Builder | WholeBuilder] = {
    "integer": INTEGER_BUILDER,
    "float8": FLOAT8_BUILDER,
    "trellis": TRELLIS_BUILDER,
    "exl3": EXL3_BUILDER,
    **dict.fromkeys(GGML_TYPES, GGML_BUILDER),
    **dict.fromkeys(GROUP_OF, AFFINE_BUILDER),
    **dict.fromkeys(FLOAT4_GROUPS, FLOAT4_BUILDER),
}


def column_builder(level: Level) -> Builder:
    """Return the builder of a level whose columns are rounded one by one."""
    builder = BUILDERS[level.coding]
    assert isinstance(builder, Builder)  # noqa: S101 (codings that stand alone have been taken out)
    return builder


def needs_of(levels: Iterable[Level]) -> frozenset[Need]:
    """Return the parts of the statistics that the builders of some levels use."""
    codings = {level.coding for level in levels if not level.is_dense}
    return frozenset(need for coding in codings for need in BUILDERS[coding].needs)
