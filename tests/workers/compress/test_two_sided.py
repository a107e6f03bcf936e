"""Two-sided rounding: its definition, its two ends (no factor, all of it), and that it lowers what it minimises."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from space.level import Level, parse_level
from tests.workers.weights import correlated_hessian, random_weight
from workers.compress.build import build_levels
from workers.compress.builders.trellis import TrellisRounder
from workers.compress.builders.two_sided import two_sided_integers, two_sided_trellis
from workers.compress.gptq import gptq
from workers.compress.module_statistics import Statistics
from workers.compress.rounding_inputs import Inputs, damped
from workers.compress.rounding_outputs import Outputs
from workers.compress.scales import search_scales
from workers.kernels.unpack import unpack

KINDS = ("b2-g16", "b3-gch", "b4-g16", "b2-gch-t-h", "b3-gch-t", "b3-g16-s0.5", "b3-gch-s2:4", "b3-g16-r4")
ROWS, COLUMNS = 70, 48


def _statistics(damping: float | None, rows: int = ROWS, columns: int = COLUMNS) -> Statistics:
    dampings = dict.fromkeys((2, 3, 4), damping)
    return Statistics(correlated_hessian(columns), correlated_hessian(rows, seed=7), dampings)


def _cost(error: Tensor, statistics: Statistics, damping: float) -> float:
    """Return tr(E H_in Eᵀ H_out), straight from the definition."""
    metric = statistics.output_metric(damping)
    assert metric is not None
    error, hessian = error.double(), statistics.hessian.double()
    return float(torch.trace(error @ hessian @ error.T @ metric.double()))


@pytest.mark.parametrize("text", KINDS)
def test_it_lowers_what_it_minimises(text: str) -> None:
    """For every kind of level, and the error that a level is known by is just that."""
    weight, level = random_weight(ROWS, COLUMNS), parse_level(text)
    found = {}
    for damping in (None, 0.1):
        (built,) = build_levels(weight, _statistics(damping), [level])
        found[damping] = _cost(weight - unpack(built.tensors, level, COLUMNS), _statistics(0.1), 0.1)
        if damping is not None:
            metric = _statistics(damping).output_metric(damping)
            assert metric is not None
            energy = (weight @ _statistics(damping).hessian * weight).sum(1)
            assert built.output_error == pytest.approx(found[damping] / float(energy @ metric.diagonal()), rel=1e-3)
    assert found[0.1] < 0.95 * found[None]


def test_integers_are_those_of_the_definition() -> None:
    """Value by value: what is wanted plus (L_outᵀ E L_in) of all that is rounded before, E the error of the weight."""
    rows, columns, level = 9, 12, Level(3, None)
    weight, statistics = random_weight(rows, columns), _statistics(0.3, rows, columns)
    inputs, outputs = Inputs(statistics.hessian), Outputs(statistics)
    scale = search_scales(weight, level, statistics.hessian.diagonal()).float()
    found = gptq(weight, scale.expand(rows, columns), two_sided_integers([level], outputs), inputs)

    down, across = outputs.order.flip(0), inputs.order  # the first is rounded first
    metric = statistics.output_metric(0.3)
    assert metric is not None
    factors = []
    for matrix, order in ((metric, down), (damped(statistics.hessian), across)):
        lower = torch.linalg.cholesky(matrix[order][:, order].flip(0, 1).double())
        factors.append((lower / lower.diagonal()).flip(0, 1))  # unit upper: H = U D Uᵀ in the order of rounding
    turned, scales = weight[down][:, across].double(), scale[down].double()[:, 0]
    error, codes = torch.zeros(rows, columns, dtype=torch.float64), torch.zeros(rows, columns)
    for column in range(columns):
        for row in range(rows):
            wanted = turned[row, column] + factors[0][:, row] @ error @ factors[1][:, column]
            codes[row, column] = (wanted / scales[row]).round().clamp(-4, 3)
            error[row, column] = turned[row, column] - codes[row, column] * scales[row]
    expected = torch.empty_like(codes)
    expected[down[:, None], across[None]] = codes
    assert found.float().equal(expected)


@pytest.mark.parametrize("rows", [3, 32, 70])
def test_rows_that_do_not_know_of_each_other_are_rounded_as_before(rows: int) -> None:
    """A factor without anything beside its diagonal, which only weighs rows, and levels that are rounded one-sided."""
    levels = [Level(2, coding="trellis"), Level(4, coding="trellis")]
    factor = torch.diag(torch.rand(rows, generator=torch.Generator().manual_seed(0)) + 0.5)
    outputs = Outputs(Statistics(torch.eye(4), factor, {2: 0.1, 4: None}))
    generator = torch.Generator().manual_seed(1)
    targets, scale = (torch.randn(2 * rows, generator=generator) for _ in range(2))
    scale = scale.abs() + 0.1
    metric = outputs.metric_of(levels[0])
    assert metric is not None
    weighed = scale * torch.cat([metric.diagonal().sqrt(), torch.ones(rows)])
    keep = (torch.rand(2 * rows, generator=generator) > 0.3).float()
    for kept in (None, keep):
        expected = TrellisRounder([2, 4], rows)(targets, weighed, kept)
        found = two_sided_trellis(levels, outputs)(targets, scale, kept)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other)
    halves = torch.tensor([2.0, 8.0]).repeat_interleave(rows)
    integers, _ = two_sided_integers([Level(2), Level(4)], outputs)(targets, scale, None)
    assert integers.equal(targets.round().clamp(-halves, halves - 1))


def test_rows_of_a_segment_know_of_each_other() -> None:
    """Errors that are decided at once cost less than where each row is met for itself; their cost is the factor's."""
    factor = correlated_hessian(32, seed=7)
    outputs = Outputs(Statistics(torch.eye(4), factor, {3: 0.1}))
    metric, levels = outputs.metric_of(Level(3)), [Level(3, coding="trellis")]
    assert metric is not None
    costs = []
    for seed in range(20):
        targets = torch.randn(32, generator=torch.Generator().manual_seed(seed))
        for rounder in (two_sided_trellis(levels, outputs), TrellisRounder([3], 32)):
            error = targets - rounder(targets, torch.ones(32), None)[1]
            costs.append(float(error @ metric @ error))
    assert sum(costs[::2]) < 0.8 * sum(costs[1::2])


def test_levels_of_all_dampings_are_built_together_as_alone() -> None:
    """Each takes the damping of its bits; wider ones that of the widest, and what has none is rounded one-sided."""
    weight = random_weight(ROWS, COLUMNS)
    statistics = replace(_statistics(None), dampings={2: 1.0, 3: None, 4: 0.1})
    levels = [parse_level(text) for text in ("b2-g16", "b3-g16", "b4-g16", "b8-g16", "b2-gch-t-h", "b4-gch-t-h")]
    for built in build_levels(weight, statistics, levels):
        (alone,) = build_levels(weight, statistics, [built.level])
        assert all(tensor.equal(alone.tensors[name]) for name, tensor in built.tensors.items())
    (before,) = build_levels(weight, Statistics(statistics.hessian), [levels[1]])
    (now,) = build_levels(weight, statistics, [levels[1]])
    assert now.tensors["qweight"].equal(before.tensors["qweight"])
    assert statistics.damping(8) == statistics.damping(4) == 0.1


def test_a_large_weight_is_built_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some rows at a time, which know of each other alone: still better than rows that do not."""
    weight, level = random_weight(300, COLUMNS), Level(3, 16)
    errors = {}
    monkeypatch.setattr("workers.compress.build._MAX_STACKED_VALUES", 10_000)
    for damping in (None, 0.1):
        (built,) = build_levels(weight, _statistics(damping, 300), [level])
        errors[damping] = _cost(weight - unpack(built.tensors, level, COLUMNS), _statistics(0.1, 300), 0.1)
    assert errors[0.1] < errors[None]
