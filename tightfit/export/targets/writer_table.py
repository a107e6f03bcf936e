"""All writers by the name of their target."""

from collections.abc import Callable
from pathlib import Path

from space.inventory import Inventory
from space.plan import Plan
from tightfit.export.targets.compressed_tensors_writer import COMPRESSED_TENSORS_WRITER
from tightfit.export.targets.exl3_rules import exl3_problems
from tightfit.export.targets.exl3_writer import EXL3_WRITER
from tightfit.export.targets.gguf_writer import GGUF_WRITER
from tightfit.export.targets.mlx_writer import MLX_WRITER
from tightfit.export.targets.onnx_writer import ONNX_WRITER
from tightfit.export.targets.packed_writer import PACKED_WRITER
from tightfit.export.targets.vllm_rules import vllm_problems
from tightfit.export.targets.vllm_writer import VLLM_WRITER
from tightfit.export.targets.writer import TargetWriter

WRITERS: dict[str, TargetWriter] = {
    "packed": PACKED_WRITER,
    "compressed-tensors": COMPRESSED_TENSORS_WRITER,
    "gguf": GGUF_WRITER,
    "onnx": ONNX_WRITER,
    "exl3": EXL3_WRITER,
    "mlx": MLX_WRITER,
    "vllm": VLLM_WRITER,
}
RULES: dict[str, Callable[[Path, Inventory, Plan], list[str]]] = {"exl3": exl3_problems, "vllm": vllm_problems}
"""target -> (export, model, plan) -> what its runtime would not load as it was meant, as far as files tell"""
