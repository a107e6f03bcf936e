"""All ways to round inputs, by name: (..., I) inputs -> as the runtime's kernels have them."""

from collections.abc import Callable

from torch import Tensor

from space.level import Level
from workers.kernels.inputs.block_inputs import block_int8
from workers.kernels.inputs.float4_inputs import group_float4
from workers.kernels.inputs.ggml_inputs import q8_0, q8_k
from workers.kernels.inputs.token_inputs import token_float8, token_int8

ROUNDED: dict[str, Callable[[Tensor], Tensor]] = {
    "int8": token_int8,
    "float8": token_float8,
    "nvfp4": group_float4,
    "q8_K": q8_k,
    "q8_0": q8_0,
}
BY_GROUP: dict[str, Callable[[Tensor, int | None], Tensor]] = {"int8-block": block_int8}
"""those that take the columns of a level's group, too; None: a row is one"""


def rounding_of(level: Level) -> Callable[[Tensor], Tensor]:
    """Return how inputs of a level that rounds them are rounded."""
    name = level.rounded_inputs
    if name not in BY_GROUP:
        return ROUNDED[name]
    by_group, size = BY_GROUP[name], level.group_size
    return lambda inputs: by_group(inputs, size)
