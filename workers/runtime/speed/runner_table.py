"""Which runtime tells the speed of an export, by target."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from workers.runtime.speed.llama_runner import in_llama_cpp
from workers.runtime.speed.mlx_runner import in_mlx
from workers.runtime.speed.onnx_runner import in_onnx_runtime
from workers.runtime.speed.timing import Course, Runner
from workers.runtime.speed.transformers_runner import in_transformers

RUNNERS: dict[str, Callable[[Course], AbstractContextManager[tuple[str, Runner]]]] = {
    "": in_transformers,
    "packed": in_transformers,
    "compressed-tensors": in_transformers,
    "gguf": in_llama_cpp,
    "onnx": in_onnx_runtime,
    "mlx": in_mlx,
}
"""target, or empty for a model's own folder -> course -> the runtime's name, and what it has loaded"""
