"""Let transformers load `packed` checkpoints.

import tightfit.hf
model = AutoModelForCausalLM.from_pretrained(folder)
"""

from workers.runtime.transformers_hook import PackedConfig, PackedQuantizer

__all__ = ["PackedConfig", "PackedQuantizer"]
