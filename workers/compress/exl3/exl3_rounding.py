"""A weight as EXL3 stores it: turned on both sides, rounded tile by tile, its scales fitted once more after.

Shape legend: I in_features, O out_features, T tiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import shake_256

import torch
from torch import Tensor

from workers.compress.exl3.ring_search import best_states
from workers.compress.exl3.scale_fit import fitted_scales
from workers.compress.exl3.tile_feedback import block_factor, round_tiles
from workers.compress.rounding_inputs import damped
from workers.kernels.exl3.exl3_code import RING, TILE, codebook, pack_rings, tile_order
from workers.kernels.exl3.exl3_format import MULTIPLIER
from workers.kernels.exl3.exl3_kernel import BLOCK
from workers.kernels.rotation import hadamard

SPREAD = {1: 1.1, 2: 0.96, 3: 0.94, 4: 0.91, 5: 0.86, 6: 0.82, 7: 0.8, 8: 0.8}
"""bits -> by what values of variance one are multiplied before rounding: the least error, less for more bits"""


@dataclass(frozen=True)
class Metric:
    """What errors of a weight cost: tr(E A Eᵀ B) of an (O, I) error E.

    Attributes:
        inputs: (I, I) A, positive definite.
        outputs: (O, O) B, positive definite; None is the identity.

    """

    inputs: Tensor
    outputs: Tensor | None = None


class TurnedWeight:
    """One weight in the basis in which it is rounded, for all bit-widths."""

    def __init__(self, weight: Tensor, metric: Metric) -> None:
        """Take an (O, I) float32 weight; scales come first, then each side turns."""
        self.weight, self.metric = weight.T.contiguous(), metric  # (I, O)
        spread = _nonzero(self.weight.square().mean(0).sqrt())
        self.outputs = (spread * _signs("outputs", len(spread)).to(weight.device)).half()
        self._scaled = turned_columns(self.weight / self.outputs.float())
        spread = _nonzero(self._scaled.square().mean(1).sqrt())
        self.inputs = spread * _signs("inputs", len(spread)).to(weight.device)

    @cached_property
    def _input_factor(self) -> Tensor:
        return _turned_factor(self.metric.inputs, self.inputs)

    @cached_property
    def _output_factor(self) -> Tensor | None:
        return None if self.metric.outputs is None else _turned_factor(self.metric.outputs, self.outputs.float())

    def rounded(self, bits: int) -> dict[str, Tensor]:
        """Return the stored tensors of the weight at a bit-width."""
        inputs = (self.inputs / SPREAD[bits]).half()
        tiles = len(self.weight) // TILE, self.weight.shape[1] // TILE
        states = torch.empty(tiles[0] * tiles[1], RING, dtype=torch.int32, device=self.weight.device)
        order, code = tile_order().to(states.device), codebook().to(states.device)
        place = order.argsort()

        def round_some(at: Tensor, wanted: Tensor) -> Tensor:
            states[at] = found = best_states(wanted.reshape(len(wanted), RING)[:, order], bits).to(torch.int32)
            return code[found[:, place].long()].view(-1, TILE, TILE)

        turned = hadamard(self._scaled / inputs.float()[:, None], BLOCK).mul_(BLOCK**-0.5)
        values = round_tiles(turned, self._input_factor, self._output_factor, round_some)
        words = pack_rings(states & (1 << bits) - 1, bits).view(*tiles, -1)
        basis = turned_columns(hadamard(values, BLOCK).mul_(BLOCK**-0.5))
        scales = fitted_scales(self.weight, basis, (inputs, self.outputs), (self.metric.inputs, self.metric.outputs))
        marker = torch.tensor(MULTIPLIER - (1 << 32), dtype=torch.int64).to(torch.int32)
        return {"trellis": words.contiguous(), "suh": scales[0], "svh": scales[1], "mul1": marker}


def round_weight(weight: Tensor, metric: Metric, bit_widths: Sequence[int]) -> dict[int, dict[str, Tensor]]:
    """Return bits -> stored tensors of an (O, I) float32 weight, O and I multiples of 128."""
    turned = TurnedWeight(weight, metric)
    return {bits: turned.rounded(bits) for bits in bit_widths}


def turned_columns(matrix: Tensor) -> Tensor:
    """Return an (N, M) matrix times the orthogonal transform of each 128 columns."""
    return hadamard(matrix.T.contiguous(), BLOCK).mul_(BLOCK**-0.5).T.contiguous()


def _turned_factor(metric: Tensor, scales: Tensor) -> Tensor:
    """Return the block factor of a metric in scaled, turned coordinates."""
    scaled = metric * scales * scales[:, None]
    turned = turned_columns(turned_columns(scaled).T)
    return block_factor(damped((turned + turned.T) / 2))


def _nonzero(spread: Tensor) -> Tensor:
    """Return spreads that float16 holds and that can be divided by."""
    return torch.where(spread > 0, spread, spread.mean().clamp_min(1e-4)).clamp(1e-6, 6e4)


def _signs(side: str, count: int) -> Tensor:
    drawn = shake_256(f"tightfit exl3 {side} {count}".encode()).digest(count)
    return torch.tensor([1.0 if byte & 1 else -1.0 for byte in drawn])
