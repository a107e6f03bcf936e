"""Checkpoints of compressed-tensors as vLLM loads and multiplies them: fused layers at one level, few group sizes.

vLLM makes one product of q, k and v, and one of gate and up, so that their weights must have one scheme
(`find_matched_target` in its compressed_tensors/utils.py). Weights alone are `pack-quantized` integers of 2 to 8 bits:
its Marlin and Machete kernels take 4 and 8 bits, Humming the others, and its CPU kernel 4. With rounded inputs they are
`int-quantized` or `float-quantized`: bytes, one scale a row, and inputs rounded token by token; 8-bit floats need a GPU
of compute capability 8.9. Floats of 4 bits are `nvfp4-pack-quantized` or `mxfp4-pack-quantized`: Marlin multiplies
their weights with inputs as they are from 8.0 on, Blackwell's own kernels NVFP4 with inputs rounded alike.
"""

from dataclasses import replace

from space.codings.cache_coding import FLOAT8_CACHE
from space.codings.coding_table import CODINGS
from space.codings.float4_coding import FLOAT4_GROUPS, MXFP4, NVFP4_BOTH
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.targets.compressed_tensors_target import COMPRESSED_TENSORS
from space.targets.site_groups import Groups, grouped
from space.targets.target import Target

GROUP_SIZES = (32, 64, 128, None)
"""what its kernels have"""
_INPUTS = {"integer": ("", "int8"), "float8": ("float8",), **dict.fromkeys(FLOAT4_GROUPS, ("",))}
"""coding -> what the inputs slot of its levels may have"""
_CPU_BITS = 4
_MULTIPLE = 32  # of rows and columns, so that words, groups and tiles are whole
FUSED = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Layers of one parent that are one product in the models below."""
ARCHITECTURES = (
    *("GemmaForCausalLM", "Gemma2ForCausalLM", "Gemma3ForCausalLM", "GraniteForCausalLM", "LlamaForCausalLM"),
    *("MistralForCausalLM", "Olmo2ForCausalLM", "Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"),
    *("SmolLM3ForCausalLM", "Starcoder2ForCausalLM"),
)
"""Models whose layers have one name here and in vLLM, and which fuse no others."""


def _why_not(level: Level) -> str | None:
    if level.is_dense:
        return None
    if level.is_plain and not level.rotated and level.inputs in _INPUTS.get(level.coding, ()):
        return None
    return (
        "holds plain integers, with inputs as they are or in 8 bits, 8-bit floats with such inputs, and 4-bit floats "
        f"only (--kind integer,integer-a8,float8-af8,{','.join(FLOAT4_GROUPS)})"
    )


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    """Tell whether it is a layer of a block of whole tiles; heads and embeddings stay as they are."""
    rows, columns = module.out_features, module.in_features
    is_whole = rows % _MULTIPLE == 0 and columns % (level.group_size or _MULTIPLE) == 0
    is_held = level.group_size is None if level.inputs else level.group_size in GROUP_SIZES
    is_layer = module.kind == "linear" and module.site is None and module.block is not None
    return is_layer and is_held and is_whole and columns % _MULTIPLE == 0


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    if level.coding in FLOAT4_GROUPS:
        return _float4_layout(module, level)
    if not level.inputs:
        return COMPRESSED_TENSORS.layout(module, level)
    rows, columns = module.out_features, module.in_features
    dtype = "F8_E4M3" if level.coding == "float8" else "I8"
    return TensorInfo("weight", (rows, columns), dtype), TensorInfo("weight_scale", (rows, 1), "F16")


def _float4_layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    """Return codes and scales, and the factors of weights and of inputs that NVFP4 has beside them."""
    values, scale = CODINGS[level.coding].layout(module.out_features, module.in_features, level.bits or 0)
    is_mx, rounds = level.coding == MXFP4.name, bool(level.rounded_inputs)
    factors = () if is_mx else ("weight_global_scale", "input_global_scale")[: 1 + rounds]
    return (
        replace(values, name="weight_packed"),
        TensorInfo("weight_scale", scale.shape, "U8" if is_mx else "F8_E4M3"),
        *(TensorInfo(name, (1,), "F32") for name in factors),
    )


def fused_with(module_name: str) -> str | None:
    """Return the name of the product that a layer is a part of; None of one that stands alone."""
    parent, _, kind = module_name.rpartition(".")
    return next((f"{parent}.{'+'.join(kinds)}" for kinds in FUSED if kind in kinds), None)


def _groups(inventory: Inventory) -> Groups:
    return grouped(inventory, lambda module: fused_with(module.name))


def _has_no_floats(level: Level) -> bool:
    return level.coding not in ("float8", FLOAT8_CACHE.name, *FLOAT4_GROUPS)


def _has_floats_of_four_bits(level: Level) -> bool:
    """Tell what Ampere has: Marlin's kernels, for which inputs stay as they are."""
    return level.coding not in ("float8", FLOAT8_CACHE.name, NVFP4_BOTH.name)


def _rounds_no_inputs_to_four_bits(level: Level) -> bool:
    return level.coding != NVFP4_BOTH.name


def _is_for_cpus(level: Level) -> bool:
    return level.coding == "integer" and (level.bits == _CPU_BITS or level.inputs != "")


VLLM = Target(
    name="vllm",
    why_not=_why_not,
    is_legal=_is_legal,
    layout=_layout,
    groups=_groups,
    cache_coding=FLOAT8_CACHE.name,
    generations={
        "cpu": _is_for_cpus,
        "turing": _has_no_floats,
        "ampere": _has_floats_of_four_bits,
        "ada": _rounds_no_inputs_to_four_bits,
        "hopper": _rounds_no_inputs_to_four_bits,
        "blackwell": lambda _: True,
    },
)
