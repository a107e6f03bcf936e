"""Rounding to ggml's types with error feedback: ggml chooses the scales of a block, GPTQ its codes.

llama.cpp's own quantizer rounds each value of a weight alone; here what rounding a column loses is made good by the
columns behind it (GPTQ, arXiv 2210.17323), in the order that blocks stand in. A scalar type's columns are rounded one
by one under the head that ggml makes for what is left of the weight; of a type whose codes stand for several columns
at once (IQ2, IQ3), ggml rounds a whole block, and blocks feed forward (LDLQ, arXiv 2307.13304). Codes of scalar
types are chosen once more at the end, each beside all others.
Shape legend: O out_features, I in_features, B columns of a block, S bytes of a block.
"""

import torch
from torch import Tensor

from space.codings.ggml_types import GGML_TYPES
from workers.compress.ggml_codes import SCALAR_TYPES, block_codes
from workers.compress.settling.coordinate_descent import Grid, descend
from workers.kernels.ggml.ggml_library import dequantize, quantize


def round_to_type(weight: Tensor, feedback: Tensor, importance: Tensor, type_name: str) -> Tensor:
    """Return the (O, bytes) uint8 blocks of a weight.

    Args:
        weight: (O, I) float32 on the CPU.
        feedback: (I, I) upper triangular U with UᵀU = H⁻¹, columns in their own order.
        importance: (I,) positive weights of squared errors, by which ggml chooses scales.
        type_name: of `GGML_TYPES`.

    """
    left, width = weight.clone(), GGML_TYPES[type_name].columns
    round_block = _round_columns if type_name in SCALAR_TYPES else _round_whole
    blocks = []
    for start in range(0, weight.shape[1], width):
        here = slice(start, start + width)
        block, errors = round_block(left[:, here], feedback[here, here], importance[here], type_name)
        left[:, start + width :].addmm_(errors, feedback[here, start + width :], alpha=-1)
        blocks.append(block)
    return torch.cat(blocks, 1)


def choose_again(weight: Tensor, blocks: Tensor, metrics: tuple[Tensor, Tensor | None], type_name: str) -> Tensor:
    """Return (O, bytes) uint8 blocks with the same heads, and codes whose error costs no more.

    Args:
        weight: (O, I) float32 on the CPU.
        blocks: (O, bytes) uint8 of it.
        metrics: (I, I) of inputs and (O, O) of outputs; None counts all rows alike.
        type_name: of `SCALAR_TYPES`.

    """
    codes, per_block = block_codes(type_name), blocks.view(-1, GGML_TYPES[type_name].block_bytes)
    offset, step = codes.grid(per_block)
    ranks, _ = codes.nearest((dequantize(per_block, type_name) - offset) * torch.where(step == 0, 0.0, 1 / step))
    grid = Grid(codes.values, step.view(weight.shape), offset.view(weight.shape))
    found = descend(weight, ranks.view(weight.shape), grid, metrics)
    return codes.write(per_block, found.view(ranks.shape)).view(blocks.shape)


def _round_columns(wanted: Tensor, factor: Tensor, importance: Tensor, type_name: str) -> tuple[Tensor, Tensor]:
    """Return the (O, S) blocks of (O, B) values, and the (O, B) errors to feed forward."""
    codes, heads = block_codes(type_name), quantize(wanted, type_name, importance)
    offset_bo, step_bo = (part.T.contiguous() for part in codes.grid(heads))
    left_bo = wanted.T.contiguous()
    errors_bo, ranks_bo = torch.empty_like(left_bo), torch.empty(left_bo.shape, dtype=torch.long)
    per_step = torch.where(step_bo == 0, 0.0, 1 / step_bo)
    for i in range(len(left_bo)):
        ranks_bo[i], values = codes.nearest((left_bo[i] - offset_bo[i]) * per_step[i])
        errors_bo[i] = (left_bo[i] - offset_bo[i] - step_bo[i] * values) / factor[i, i]
        left_bo[i + 1 :].addr_(factor[i, i + 1 :], errors_bo[i], alpha=-1)
    return codes.write(heads, ranks_bo.T), errors_bo.T


def _round_whole(wanted: Tensor, factor: Tensor, importance: Tensor, type_name: str) -> tuple[Tensor, Tensor]:
    """Return the same of a type whose blocks ggml rounds."""
    blocks = quantize(wanted, type_name, importance)
    missed = wanted - dequantize(blocks, type_name)
    return blocks, torch.linalg.solve_triangular(factor, missed, upper=True, left=False)
