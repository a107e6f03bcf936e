"""GPTQ and its scales: as in the paper, and better than rounding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from space.level import Level, parse_level
from tests.workers.weights import correlated_hessian, output_error, random_weight
from workers.compress.build import build_levels
from workers.compress.gptq import gptq, integer_rounder
from workers.compress.module_statistics import Statistics
from workers.compress.prune import prune_mask
from workers.compress.rounding_inputs import Inputs, conditional_energy, damped, inverse_factor
from workers.compress.scales import search_scales
from workers.kernels.unpack import column_scale, unpack


def _reference(weight: Tensor, scale: Tensor, half: float, hessian: Tensor, mask: Tensor | None) -> Tensor:
    """Quantize row by row: arXiv 2210.17323, equations 2 and 3 with static scales, H⁻¹ updated by elimination."""
    order = torch.argsort(hessian.diagonal(), descending=True, stable=True).tolist()
    codes = torch.zeros(weight.shape, dtype=torch.int16)
    for row in range(len(weight)):
        left, inverse = weight[row].double().clone(), torch.linalg.inv(damped(hessian).double())
        for i in order:
            code = float((left[i] / scale[row, i].double()).round().clamp(-half, half - 1))
            if mask is not None and not mask[row, i]:
                code = 0.0
            codes[row, i] = int(code)
            error = (left[i] - code * scale[row, i].double()) / inverse[i, i]
            left -= error * inverse[i]
            inverse = inverse - torch.outer(inverse[:, i], inverse[i]) / inverse[i, i]
            inverse[i, i] = 1.0  # its row and column are zero now; the value is not used again
    return codes


def _error(weight: Tensor, codes: Tensor, scale: Tensor, hessian: Tensor) -> float:
    return output_error(weight, codes.float() * scale, hessian)


@pytest.mark.parametrize("level", [Level(2, 8), Level(3, None), Level(4, 5), Level(8, 16)])
@pytest.mark.parametrize("is_sparse", [False, True])
def test_integers_are_those_of_the_paper(level: Level, is_sparse: bool) -> None:  # noqa: FBT001
    """Blocks, the Cholesky form and stacked rows change nothing, with and without a mask."""
    weight, hessian = random_weight(5, 75), correlated_hessian(75)
    mask = prune_mask(weight, hessian, Level(4, None, 0.4)) if is_sparse else None
    scale = column_scale(search_scales(weight, level, None, mask), level, 75).expand(5, 75)
    assert level.bits is not None
    half = 2.0 ** (level.bits - 1)
    found = gptq(weight, scale, integer_rounder(torch.full((5,), half)), Inputs(hessian), mask)
    assert found.equal(_reference(weight, scale, half, hessian, mask))


def test_stacked_levels_do_not_touch_each_other() -> None:
    """Many levels in one call give the integers of one call each."""
    weight, hessian = random_weight(6, 64), correlated_hessian(64)
    levels = [Level(2, 16), Level(8, None), Level(3, 32, 0.5), Level(4, 64, 0.5, "2:4"), Level(3, 64, rank=4)]
    levels += map(parse_level, ("b2-gch-t-h", "b4-g16-t", "b3-gch-h", "b3-gch-t-h-s0.5-r2"))
    together = build_levels(weight, Statistics(hessian), levels)
    for level, built in zip(levels, together, strict=True):
        (alone,) = build_levels(weight, Statistics(hessian), [level])
        assert built.level == level
        assert built.output_error == pytest.approx(alone.output_error, rel=1e-4)
        assert all(t.equal(alone.tensors[n]) for n, t in built.tensors.items())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
def test_error_is_below_rounding(bits: int) -> None:
    """Error feedback beats round-to-nearest with the same scales clearly."""
    weight, hessian = random_weight(16, 96), correlated_hessian(96)
    level = Level(bits, 32)
    scale = column_scale(search_scales(weight, level, hessian.diagonal()), level, 96)
    half = 2.0 ** (bits - 1)
    rounded = (weight / scale).round().clamp(-half, half - 1)
    fed_back = gptq(weight, scale, integer_rounder(torch.full((16,), half)), Inputs(hessian))
    assert _error(weight, fed_back, scale, hessian) < 0.8 * _error(weight, rounded, scale, hessian)


def test_identity_hessian_is_rounding() -> None:
    """Without calibration the integers are the nearest ones."""
    weight, level = random_weight(4, 40), Level(4, 8)
    scale = column_scale(search_scales(weight, level), level, 40)
    found = gptq(weight, scale, integer_rounder(torch.full((4,), 8.0)), Inputs(torch.eye(40)))
    assert found.equal((weight / scale).round().clamp(-8, 7).to(torch.int16))


def test_mask_is_kept_exactly() -> None:
    """What is pruned is zero in the stored weight, whatever error is fed into it."""
    weight, hessian = random_weight(8, 128), correlated_hessian(128)
    for level in (
        Level(3, 32, 0.5),
        Level(4, None, 0.5, "2:4"),
        Level(8, 64, 0.7),
        Level(3, 32, 0.5, coding="trellis"),
    ):
        mask = prune_mask(weight, hessian, level)
        (built,) = build_levels(weight, Statistics(hessian), [level])
        assert (unpack(built.tensors, level, 128)[~mask] == 0).all()


def test_all_levels_share_a_factorization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain ones have one, rotated ones another, however many rows and levels fit into memory at a time."""
    made: list[int] = []

    def counting(hessian: Tensor) -> Tensor:
        made.append(len(hessian))
        return inverse_factor(hessian)

    weight, hessian = random_weight(300, 64), correlated_hessian(64)
    levels = list(map(parse_level, ("b2-g16", "b3-g16", "b8-gch", "b4-g16-t", "b4-gch-h", "b2-gch-t-h")))
    whole = build_levels(weight, Statistics(hessian), levels)
    monkeypatch.setattr("workers.compress.rounding_inputs.inverse_factor", counting)
    monkeypatch.setattr("workers.compress.build._MAX_STACKED_VALUES", 10_000)
    in_parts = build_levels(weight, Statistics(hessian), levels)
    assert made == [64, 64]
    for one, other in zip(whole, in_parts, strict=True):
        assert one.output_error == pytest.approx(other.output_error, rel=1e-4)


def test_energy_of_columns_is_that_of_the_inverse_factor() -> None:
    """It takes one factorization instead of three."""
    hessian = correlated_hessian(75)
    torch.testing.assert_close(conditional_energy(hessian), inverse_factor(hessian).diagonal().pow(-2))


def test_dead_columns_do_no_harm() -> None:
    """Inputs that are always zero give finite integers and no error."""
    weight, hessian = random_weight(4, 32), correlated_hessian(32)
    hessian[:, 5] = hessian[5] = 0
    for text in ("b4-g16-s0.5-r2", "b4-gch-t-h", "b3-gch-t"):
        (built,) = build_levels(weight, Statistics(hessian), [parse_level(text)])
        assert unpack(built.tensors, built.level, 32).isfinite().all()
    (nothing,) = build_levels(weight, Statistics(torch.zeros(32, 32)), [Level(4, 16)])
    assert nothing.output_error == 0


def test_zero_weight_stays_zero() -> None:
    """A module of zeros has no error at any level."""
    levels = [Level(2, 16), Level(4, None, 0.5), Level(3, 16, rank=2), parse_level("b2-gch-t-h-r2")]
    for built in build_levels(torch.zeros(4, 32), Statistics(correlated_hessian(32)), levels):
        assert built.output_error == 0
        assert (unpack(built.tensors, built.level, 32) == 0).all()


@settings(max_examples=40, deadline=None, database=None, derandomize=True)
@given(
    bits=st.integers(2, 8),
    group=st.none() | st.integers(3, 40),
    seed=st.integers(0, 2**31),
    power=st.sampled_from([0.5, 1.0, 3.0]),
)
def test_scale_search_is_never_worse_than_min_max(bits: int, group: int | None, seed: int, power: float) -> None:
    """A weight's error is at most that of scales from the largest values; a group alone may lose a little."""
    weight = random_weight(16, 40, seed)
    weight = weight.sign() * weight.abs() ** power
    importance = torch.rand(40, generator=torch.Generator().manual_seed(seed)) + 0.1
    level, half = Level(bits, group), 2.0 ** (bits - 1)
    size = group or 40
    padded = torch.nn.functional.pad(weight, (0, -40 % size)).view(16, -1, size)
    min_max = (padded.abs().amax(-1) / (half - 0.5)).half()

    def error(scale: Tensor) -> float:
        per_column = column_scale(scale, level, 40)
        rounded = (weight / per_column).round().clamp(-half, half - 1) * per_column
        return float(((rounded - weight).square() * importance).sum())

    assert error(search_scales(weight, level, importance)) <= error(min_max) * (1 + 1e-5)


def test_scales_are_finite_and_never_zero() -> None:
    """Groups of zeros and of tiny values keep a scale that can be divided by."""
    weight = torch.zeros(2, 32)
    weight[1] = 1e-9
    scale = search_scales(weight, Level(4, 16))
    assert scale.isfinite().all()
    assert (scale != 0).all()


@pytest.mark.parametrize("text", ["b3-g16", "b4-gch-t-h", "b2-gch-s0.5", "b3-g16-r2"])
def test_rows_of_a_large_weight_are_built_in_parts(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts give what the whole gives, but for the order of sums."""
    weight, hessian = random_weight(72, 32), correlated_hessian(32)
    level = parse_level(text)
    (whole,) = build_levels(weight, Statistics(hessian), [level])
    monkeypatch.setattr("workers.compress.build._MAX_STACKED_VALUES", 4 * 32 * 32)
    (parts,) = build_levels(weight, Statistics(hessian), [level])
    assert {n: t.shape for n, t in parts.tensors.items()} == {n: t.shape for n, t in whole.tensors.items()}
    assert parts.output_error == pytest.approx(whole.output_error, rel=0.02)
    found, expected = (unpack(b.tensors, level, 32) for b in (parts, whole))
    assert float((found - expected).norm() / expected.norm()) < 0.02
