"""Weights as llm-compressor's presets of 4-bit floats round them: scales from the largest values, then the nearest.

By the functions of compressed-tensors that it calls: `generate_gparam`, `calculate_qparams` and `fake_quantize`. The
factor of layers that vLLM fuses is that of the largest of them there; each layer has its own here, which loses less.
"""

import torch
from compressed_tensors.quantization import preset_name_to_scheme
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import calculate_qparams, generate_gparam
from torch import Tensor


def nearest_floats(weight: Tensor, preset: str) -> Tensor:
    """Return an (O, I) weight as a preset (`NVFP4A16`, `MXFP4A16`) rounds it."""
    args = preset_name_to_scheme(preset, []).weights
    assert args is not None  # noqa: S101 (presets round weights)
    assert args.group_size is not None  # noqa: S101 (in groups)
    factor = generate_gparam(weight.min(), weight.max()) if preset.startswith("NV") else None
    groups = weight.view(len(weight), -1, args.group_size)
    scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), args, factor)
    rounded: Tensor = fake_quantize(weight, scale, zero, args, factor)
    return rounded.to(torch.float32)
