"""Trellis and rotation: the best way through the trellis, an orthogonal rotation, and less error than integers."""

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from space.level import parse_level
from tests.workers.weights import correlated_hessian, output_error, random_weight
from workers.compress.build import build_levels
from workers.compress.builders.trellis import TrellisRounder
from workers.compress.gptq import gptq
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import Inputs
from workers.kernels.rotation import rotate, rotate_back, rotate_hessian
from workers.kernels.trellis_code import GAUSSIAN_ERROR, codebook, decode, window_rows
from workers.kernels.unpack import unpack

properties = settings(max_examples=30, deadline=None, database=None, derandomize=True)


def _decoded(symbols: Tensor, bits: int) -> Tensor:
    """Return the (N,) values of one column of signed symbols."""
    unsigned = (symbols + 2 ** (bits - 1)).short()[:, None]
    steps = [(unsigned & 1)[at] for at in window_rows(torch.arange(len(unsigned)), len(unsigned))]
    return decode(unsigned, steps, bits)[:, 0]


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 9])
def test_no_other_way_round_is_cheaper(rows: int) -> None:
    """A short segment's symbols are the best of all there are, weighted by the scale."""
    generator = torch.Generator().manual_seed(rows)
    targets, scale = torch.randn(rows, generator=generator), torch.rand(rows, generator=generator) + 0.1
    symbols, values = TrellisRounder([2], rows)(targets, scale, None)
    assert _decoded(symbols, 2).equal(values)

    def cost(found: Tensor) -> float:
        return float(((found - targets) * scale).square().sum())

    # the best symbols for given steps are the nearest values of each subset, so all steps are all there is to try
    best = float("inf")
    for steps in product((0, 1), repeat=rows):
        total = 0.0
        for row in range(rows):
            now, one, two, three = (steps[(row - k) % rows] for k in range(4))
            subset = codebook(2)[2 * (now ^ one ^ three) + two :: 4]
            total += float(((subset - targets[row]).abs().min() * scale[row]).square())
        best = min(best, total)
    assert cost(values) == pytest.approx(best, rel=1e-5)


@properties
@given(
    rows=st.integers(1, 100), bits=st.lists(st.integers(2, 8), min_size=1, max_size=3), seed=st.integers(0, 2**31),
    zeros=st.sampled_from([0.0, 0.5, 1.0]),
)  # fmt: skip
def test_symbols_stand_for_their_values(rows: int, bits: list[int], seed: int, zeros: float) -> None:
    """What rounding says it stored is what decoding finds, for stacked levels, odd rows and pruned weights."""
    generator = torch.Generator().manual_seed(seed)
    count = rows * len(bits)
    targets = torch.randn(count, generator=generator) * 2
    keep = (torch.rand(count, generator=generator) >= zeros).float()
    symbols, values = TrellisRounder(bits, rows)(targets, torch.ones(count), keep)
    for part, found, kept, width in zip(
        symbols.split(rows), values.split(rows), keep.split(rows), bits, strict=True
    ):  # a pruned weight's step is 0
        half = 2 ** (width - 1)
        assert (part.abs() <= half).all()
        stored = torch.where(kept == 0, torch.full_like(part, -half), part)
        assert (_decoded(stored, width) * kept).equal(found)


@pytest.mark.parametrize("bits", range(2, 9))
def test_error_of_gaussian_values(bits: int) -> None:
    """The codebooks reach the error that screening counts on: below any rounding to 2^bits values."""
    targets = torch.randn(16_384, generator=torch.Generator().manual_seed(bits))
    _, values = TrellisRounder([bits], len(targets))(targets, torch.ones(len(targets)), None)
    error = float((values - targets).square().mean())
    assert error == pytest.approx(GAUSSIAN_ERROR[bits], rel=0.12)
    if bits in (2, 3, 4):
        assert error < {2: 0.1175, 3: 0.03454, 4: 0.009497}[bits]  # Max 1960, table 1: the best scalar quantizers


@properties
@given(columns=st.integers(1, 700), seed=st.integers(0, 2**31))
def test_rotation_is_orthogonal(columns: int, seed: int) -> None:
    """It keeps lengths and can be undone; outputs stay what they were when the Hessian turns with the weight."""
    weight, hessian = torch.randn(3, columns, generator=torch.Generator().manual_seed(seed)), torch.eye(columns)
    hessian += torch.outer(weight[0], weight[0])
    turned = rotate(weight)
    torch.testing.assert_close(turned.square().sum(1), weight.square().sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(rotate_back(turned), weight, rtol=1e-4, atol=1e-4)
    before = ((weight @ hessian) * weight).sum(1)
    torch.testing.assert_close(((turned @ rotate_hessian(hessian)) * turned).sum(1), before, rtol=1e-3, atol=1e-3)
    assert rotate_back(turned[1:2]).equal(rotate_back(turned)[1:2])


@pytest.mark.parametrize("columns", [96, 100, 127, 256, 384, 688])
def test_rotation_mixes_every_width(columns: int) -> None:
    """One column's weight is spread over many columns, whatever the width."""
    turned = rotate(torch.eye(columns))
    assert float(turned.abs().max()) <= 0.3


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rotated_trellis_beats_integers(bits: int) -> None:
    """On correlated activations the error is well below integers in groups of 32, in fewer bytes."""
    weight, hessian = random_weight(64, 192), correlated_hessian(192)
    levels = [parse_level(f"b{bits}-g32"), parse_level(f"b{bits}-gch-t-h")]
    integers, trellis = build_levels(weight, Statistics(hessian), levels)
    assert sum(t.nbytes for t in trellis.tensors.values()) < sum(t.nbytes for t in integers.tensors.values())
    assert trellis.output_error < 0.8 * integers.output_error
    rebuilt = unpack(trellis.tensors, trellis.level, 192)
    assert trellis.output_error == pytest.approx(output_error(weight, rebuilt, hessian), rel=1e-3)


def test_error_feedback_works_through_the_trellis() -> None:
    """Decided column by column with feedback, the output error is below that of decisions without it."""
    weight, hessian = random_weight(64, 96), correlated_hessian(96)
    scale = weight.square().mean(1, keepdim=True).sqrt().expand(64, 96)

    def error(by: Tensor) -> float:
        symbols = gptq(weight, scale, TrellisRounder([3], 64), Inputs(by))
        return output_error(weight, torch.stack([_decoded(s, 3) for s in symbols.T], 1) * scale, hessian)

    assert error(hessian) < 0.8 * error(torch.eye(96))
