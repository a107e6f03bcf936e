"""Pruning, low rank and screening."""

import pytest
import torch

from space.codings.masks import PRUNING_BLOCK
from space.cost import module_bytes
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level, kept_columns
from space.menu import Menu
from tests.workers.weights import correlated_hessian, output_error, random_weight
from workers.compress.build import build_levels
from workers.compress.gptq import gptq, integer_rounder
from workers.compress.lowrank import low_rank
from workers.compress.module_statistics import Statistics
from workers.compress.prune import PruningMethod, prune_mask
from workers.compress.rounding_inputs import Inputs
from workers.compress.scales import search_scales
from workers.compress.screen import screen_levels

METHODS: list[PruningMethod] = ["magnitude", "wanda", "sparsegpt"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sparsity", [0.1, 0.33, 0.5, 0.9])
@pytest.mark.parametrize("columns", [100, 128, 300])
def test_each_row_and_block_keeps_its_exact_count(method: PruningMethod, sparsity: float, columns: int) -> None:
    """The number of kept values is known before."""
    level = Level(4, None, sparsity)
    mask = prune_mask(random_weight(5, columns), correlated_hessian(columns), level, method)
    assert (mask.sum(1) == kept_columns(level, columns)).all()
    for part in mask.split(PRUNING_BLOCK, dim=1):
        assert (part.sum(1) == part.shape[1] - int(part.shape[1] * sparsity)).all()


@pytest.mark.parametrize("method", METHODS)
def test_two_of_every_four_are_kept(method: PruningMethod) -> None:
    """A 2:4 mask holds in every four consecutive columns."""
    mask = prune_mask(random_weight(5, 300), correlated_hessian(300), Level(4, None, 0.5, "2:4"), method)
    assert (mask.view(5, -1, 4).sum(-1) == 2).all()


@pytest.mark.parametrize("level", [Level(8, None, 0.5), Level(8, None, 0.7), Level(8, None, 0.5, "2:4")])
def test_better_methods_lose_less(level: Level) -> None:
    """On correlated activations: magnitude, then Wanda, then SparseGPT, each with its error fed back."""
    weight, hessian = random_weight(32, 256), correlated_hessian(256)
    rounder = integer_rounder(torch.full((32,), 128.0))

    def error(method: PruningMethod) -> float:
        mask = prune_mask(weight, hessian, level, method)
        scale = search_scales(weight, level, None, mask).float().expand(32, 256)
        return output_error(weight, gptq(weight, scale, rounder, Inputs(hessian), mask) * scale, hessian)

    magnitude, wanda, sparsegpt = map(error, METHODS)
    assert magnitude > wanda > sparsegpt


def test_correction_lowers_the_error() -> None:
    """A level with rank is better than the same one without, and more rank is better."""
    weight, hessian = random_weight(48, 64), correlated_hessian(64)
    built = build_levels(weight, Statistics(hessian), [Level(2, 32, rank=rank) for rank in (0, 4, 16)])
    plain, some, more = (b.output_error for b in built)
    assert plain > some > more


def test_full_rank_holds_nearly_everything() -> None:
    """Factors of 8 bits of full rank leave about one percent of a small matrix."""
    residual, hessian = random_weight(24, 16), correlated_hessian(16)
    left, right, scale = low_rank(residual, Inputs(hessian), 16)
    assert left.dtype == right.dtype == torch.int8
    assert output_error(residual, (left.float() * scale) @ right.float(), hessian) < 2e-3


def test_low_rank_is_the_best_under_the_activations() -> None:
    """The whitened factors beat those of the plain SVD on the output."""
    residual, hessian = random_weight(24, 32), correlated_hessian(32)
    left, right, scale = low_rank(residual, Inputs(hessian), 4)
    u, s, vt = torch.linalg.svd(residual, full_matrices=False)
    whitened = output_error(residual, (left.float() * scale) @ right.float(), hessian)
    assert whitened < output_error(residual, u[:, :4] * s[:4] @ vt[:4], hessian)


def test_screening_keeps_good_plain_and_required_levels() -> None:
    """Plain integers stay unless a trellis beats them, required levels always; others may be dropped, in order."""
    weight, hessian = random_weight(32, 64), correlated_hessian(64)
    module = ModuleInfo("m", "linear", TensorInfo("m.weight", (32, 64), "BF16"), 0)
    menu = Menu((2, 4, 8), (32, None), (0.0, 0.5, "2:4"), (0, 4), ("integer",)).levels()
    sizes = {level: module_bytes(module, level) for level in menu}
    everything = [level for level in sizes if level.is_plain]
    dropped = [level for level in sizes if level not in screen_levels(weight, Statistics(hessian), sizes)[0]]
    assert dropped
    kept, _ = screen_levels(weight, Statistics(hessian), sizes, dropped[:1])
    assert {*everything, dropped[0]} <= set(kept)
    assert kept == [level for level in sizes if level in kept]
    trellis = [Level(bits, None, coding="trellis", rotated=True) for bits in (2, 4, 8)]
    sizes |= {level: module_bytes(module, level) for level in trellis}
    chosen, _ = screen_levels(weight, Statistics(hessian), sizes, [Level(2, 32)])
    assert {*trellis, Level(2, 32)} <= set(chosen)
    assert not {Level(2), Level(4), Level(4, 32)} & set(chosen)


def test_screening_keeps_the_smallest_size() -> None:
    """A level below all plain ones stays, bad as it is: a budget was promised that only it can reach."""
    weight, hessian = random_weight(32, 64), correlated_hessian(64)
    module = ModuleInfo("m", "linear", TensorInfo("m.weight", (32, 64), "BF16"), 0)
    sizes = {v: module_bytes(module, v) for v in Menu((2, 4, 8), (None,), (0.0, "2:4"), (0,)).levels()}
    smallest = min(sizes, key=lambda level: sizes[level])
    assert not smallest.is_plain
    assert smallest in screen_levels(weight, Statistics(hessian), sizes)[0]
