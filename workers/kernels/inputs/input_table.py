"""All ways to round inputs, by name: (..., I) inputs -> as the runtime's kernels have them."""

from collections.abc import Callable

from torch import Tensor

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
