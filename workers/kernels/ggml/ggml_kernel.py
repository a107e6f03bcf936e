"""Weights out of blocks of ggml's types, by ggml's own code: what llama.cpp computes with."""

from torch import Tensor

from space.level import Level
from workers.kernels.ggml.ggml_library import dequantize
from workers.kernels.kernel import Kernel, Tensors


def _values(tensors: Tensors, level: Level, _: int, rows: Tensor | None) -> Tensor:
    blocks = tensors["blocks"] if rows is None else tensors["blocks"][rows]
    return dequantize(blocks.cpu(), level.coding).to(blocks.device)


GGML_KERNEL = Kernel(_values)
