"""Making EXL3 levels: the search for symbols, feedback from tile to tile, and scales."""

import pytest
import torch
from torch import Tensor

from space.level import Level
from tests.workers.exl3_rings import ring_states
from tests.workers.weights import correlated_hessian, output_error, random_weight
from workers.compress.exl3.exl3_rounding import Metric, round_weight
from workers.compress.exl3.ring_search import best_states, best_states_in_torch
from workers.compress.exl3.tile_feedback import block_factor, round_tiles
from workers.compress.rounding_inputs import damped
from workers.kernels.exl3.exl3_code import codebook
from workers.kernels.exl3.exl3_kernel import EXL3_KERNEL

BITS = 4


def _targets(tiles: int) -> Tensor:
    return torch.randn(tiles, 256, generator=torch.Generator().manual_seed(3)) * 0.9


def test_compiled_and_plain_search_agree() -> None:
    """The same states, which follow each other all around the ring; on two threads as on one."""
    targets, threads = _targets(3), torch.get_num_threads()
    states = best_states(targets, BITS)
    assert torch.equal(states, best_states_in_torch(targets, BITS))
    assert torch.equal(states, ring_states(states & (1 << BITS) - 1, BITS))
    torch.set_num_threads(2)
    try:
        assert torch.equal(best_states(targets, BITS), states)
    finally:
        torch.set_num_threads(threads)


def test_a_ring_that_can_be_met_is_found() -> None:
    """Values of a ring are answered with that ring: the search is over all states."""
    ring = ring_states(torch.randint(0, 1 << BITS, (2, 256), generator=torch.Generator().manual_seed(5)), BITS)
    assert torch.equal(best_states(codebook()[ring], BITS), ring)


def test_gaussian_values_are_met_as_well_as_known() -> None:
    """4 bits: at most 1.05 times the error of 0.00455 (a small sample; the benchmark measures more)."""
    targets = _targets(24)
    error = (codebook()[best_states(targets, BITS)] - targets).square().mean() / 0.9**2
    assert error.item() < 1.05 * 0.00455


def _loss(error: Tensor, inputs: Tensor, outputs: Tensor) -> float:
    return float((error.T @ inputs @ error @ outputs).trace())


@pytest.mark.parametrize("two_sided", [False, True])
def test_feedback_makes_each_tile_what_the_others_leave(two_sided: bool) -> None:  # noqa: FBT001 (pytest's)
    """Wanted values are those of the closed form, tile by tile, whatever order they come in; and the loss falls."""
    inputs, outputs = correlated_hessian(64), correlated_hessian(48, 2)
    weight = random_weight(64, 48)
    lower = block_factor(damped(inputs)), block_factor(damped(outputs)) if two_sided else None
    wanted: dict[int, Tensor] = {}

    def coarse(at: Tensor, tiles: Tensor) -> Tensor:
        wanted.update(zip(at.tolist(), tiles.clone(), strict=True))
        return tiles.round()

    values = round_tiles(weight, *lower, coarse)
    error = weight - values
    carried = lower[0].T @ error @ (torch.eye(48) if lower[1] is None else lower[1])
    both = torch.stack([wanted[i] for i in range(12)]).view(4, 3, 16, 16).transpose(1, 2).reshape(64, 48)
    assert torch.allclose(both, weight + carried - error, atol=1e-3)
    assert torch.allclose(values, both.round(), atol=1e-5)
    metric = damped(outputs) if two_sided else torch.eye(48)
    assert _loss(error, damped(inputs), metric) < 0.8 * _loss(weight - weight.round(), damped(inputs), metric)


def test_a_weight_is_rounded_with_the_loss_in_view() -> None:
    """An output factor lowers the loss that knows it; scales of 4-bit tiles are worth 4 bits; zero rows stay small."""
    weight, hessian, factor = random_weight(128, 128), correlated_hessian(128), correlated_hessian(128, 4)
    weight[7] = 0
    metric = Metric(damped(hessian)), Metric(damped(hessian), damped(factor))
    one, two = (EXL3_KERNEL.values(round_weight(weight, m, [BITS])[BITS], Level(BITS), 128, None) for m in metric)
    assert output_error(weight, one, hessian) < 0.0025
    assert _loss((weight - two).T, hessian, factor) < 0.6 * _loss((weight - one).T, hessian, factor)
    assert one[7].abs().max() < 0.05 * one.abs().max()
