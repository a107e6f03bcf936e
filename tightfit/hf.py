"""Let transformers load `packed` checkpoints.

import tightfit.hf
model = AutoModelForCausalLM.from_pretrained(folder)

On CPUs packed weights are multiplied as they lie, which rounds a little otherwise than the searched model;
`use_fast_kernels(model, fast=False)` takes the slow path that equals it to the bit.
"""

from workers.runtime.packed_modules import use_fast_kernels
from workers.runtime.transformers_hook import PackedConfig, PackedQuantizer

__all__ = ["PackedConfig", "PackedQuantizer", "use_fast_kernels"]
