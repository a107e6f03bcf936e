"""Checkpoints of compressed-tensors as vLLM loads and multiplies them: fused layers at one level, few group sizes.

vLLM makes one product of q, k and v, and one of gate and up, so that their weights must have one scheme
(`find_matched_target` in its compressed_tensors/utils.py). Weights alone are `pack-quantized` integers of 2 to 8 bits:
its Marlin and Machete kernels take 4 and 8 bits, Humming the others, and its CPU kernel 4. With rounded inputs they are
`int-quantized` or `float-quantized`: bytes, one scale a row, and inputs rounded token by token; 8-bit floats need a GPU
of compute capability 8.9.
"""

from space.codings.cache_coding import FLOAT8_CACHE
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.targets.compressed_tensors_target import COMPRESSED_TENSORS
from space.targets.site_groups import Groups, grouped
from space.targets.target import Target

GROUP_SIZES = (32, 64, 128, None)
"""what its kernels have"""
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
    is_float = level.coding == "float8" and bool(level.inputs)
    if level.is_plain and not level.rotated and (level.coding == "integer" or is_float):
        return None
    return (
        "holds plain integers, with inputs as they are or in 8 bits, and 8-bit floats with such inputs only "
        "(--kind integer,integer-a8,float8-af8)"
    )


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    """Tell whether it is a layer of a block of whole tiles; heads and embeddings stay as they are."""
    rows, columns = module.out_features, module.in_features
    is_whole = rows % _MULTIPLE == 0 and columns % (level.group_size or _MULTIPLE) == 0
    is_held = level.group_size is None if level.inputs else level.group_size in GROUP_SIZES
    is_layer = module.kind == "linear" and module.site is None and module.block is not None
    return is_layer and is_held and is_whole and columns % _MULTIPLE == 0


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    if not level.inputs:
        return COMPRESSED_TENSORS.layout(module, level)
    rows, columns = module.out_features, module.in_features
    dtype = "F8_E4M3" if level.coding == "float8" else "I8"
    return TensorInfo("weight", (rows, columns), dtype), TensorInfo("weight_scale", (rows, 1), "F16")


def fused_with(module_name: str) -> str | None:
    """Return the name of the product that a layer is a part of; None of one that stands alone."""
    parent, _, kind = module_name.rpartition(".")
    return next((f"{parent}.{'+'.join(kinds)}" for kinds in FUSED if kind in kinds), None)


def _groups(inventory: Inventory) -> Groups:
    return grouped(inventory, lambda module: fused_with(module.name))


def _has_no_floats(level: Level) -> bool:
    return level.coding not in ("float8", FLOAT8_CACHE.name)


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
        "ampere": _has_no_floats,
        "ada": lambda _: True,
        "hopper": lambda _: True,
    },
)
