"""All kernels by the name of their coding."""

from workers.kernels.integer_kernel import INTEGER_KERNEL
from workers.kernels.kernel import Kernel
from workers.kernels.trellis_kernel import TRELLIS_KERNEL

KERNELS: dict[str, Kernel] = {"integer": INTEGER_KERNEL, "trellis": TRELLIS_KERNEL}
