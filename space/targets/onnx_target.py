"""ONNX files of ONNX Runtime: integers of 2, 4 or 8 bits in blocks, for linear layers and for embeddings.

The operators are MatMulNBits and GatherBlockQuantized of `com.microsoft`: a block has a power of two of columns, 16 at
least. At its `accuracy_level` 4 MatMulNBits rounds its inputs to 8-bit integers, block by block, and is many times as
fast: for 2 and 8 bits it has no other fast kernel on CPUs. What is left alone (norms, biases) is stored in float32, the
type that the graph computes with.
"""

from dataclasses import replace

from space.inventory import ModuleInfo, TensorInfo
from space.level import Level, num_groups
from space.targets.target import Target

BITS = (2, 4, 8)
_SMALLEST_BLOCK = 16
_WHOLE = "encoder.embed_positions"
"""what Whisper's encoder adds as it is, and looks nothing up in"""
_ROUNDED_BLOCKS = {2: (32, 64, 128), 4: (16, 32, 64, 128, 256), 8: (16, 32, 64, 128, 256)}
"""bits -> the blocks for which MatMulNBits has kernels that round its inputs; it ignores the wish for others"""


def _why_not(level: Level) -> str | None:
    is_held = level.coding == "integer" and level.is_plain and not level.rotated and level.inputs in ("", "int8-block")
    if level.is_dense or (is_held and level.bits in BITS):
        return None
    return (
        "holds plain integers of 2, 4 or 8 bits only, with inputs as they are or in 8 bits (--kind integer,integer-ab8)"
    )


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    is_layer = module.is_layer and not module.name.endswith(_WHOLE)
    block = level.group_size or module.in_features
    is_block = block >= _SMALLEST_BLOCK and block.bit_count() == 1 and not module.in_features % block
    return is_layer and is_block and (not level.inputs or block in _ROUNDED_BLOCKS[level.bits or 0])


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    assert level.bits is not None  # noqa: S101 (dense levels are stored as they are)
    rows, blocks = module.out_features, num_groups(level, module.in_features)
    size = module.in_features // blocks * level.bits // 8
    return (
        TensorInfo("qweight", (rows, blocks, size), "U8"),
        TensorInfo("scales", (rows, blocks), "F16"),
    )


ONNX = Target(
    name="onnx",
    why_not=_why_not,
    is_legal=_is_legal,
    layout=_layout,
    kinds=("integer-ab8",),
    other=lambda tensor: replace(tensor, dtype="F32"),
    cache_value_bytes=4,  # the graph's are float32
    packages=("onnx", "onnx_ir", "onnxruntime", "onnxruntime_genai", "onnxscript"),
)
