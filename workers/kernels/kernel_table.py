"""All kernels by the name of their coding."""

from space.codings.affine_coding import GROUP_OF
from space.codings.float4_coding import FLOAT4_GROUPS
from space.codings.ggml_types import GGML_TYPES
from workers.kernels.affine_kernel import AFFINE_KERNEL
from workers.kernels.exl3.exl3_kernel import EXL3_KERNEL
from workers.kernels.float4_kernel import FLOAT4_KERNEL
from workers.kernels.float8_kernel import FLOAT8_KERNEL
from workers.kernels.ggml.ggml_kernel import GGML_KERNEL
from workers.kernels.integer_kernel import INTEGER_KERNEL
from workers.kernels.kernel import Kernel
from workers.kernels.trellis_kernel import TRELLIS_KERNEL

KERNELS: dict[str, Kernel] = {
    "integer": INTEGER_KERNEL,
    "float8": FLOAT8_KERNEL,
    "trellis": TRELLIS_KERNEL,
    "exl3": EXL3_KERNEL,
    **dict.fromkeys(GGML_TYPES, GGML_KERNEL),
    **dict.fromkeys(GROUP_OF, AFFINE_KERNEL),
    **dict.fromkeys(FLOAT4_GROUPS, FLOAT4_KERNEL),
}
