"""All builders by the name of their coding."""

from workers.compress.builder import Builder
from workers.compress.integer_builder import INTEGER_BUILDER
from workers.compress.trellis_builder import TRELLIS_BUILDER

BUILDERS: dict[str, Builder] = {"integer": INTEGER_BUILDER, "trellis": TRELLIS_BUILDER}
