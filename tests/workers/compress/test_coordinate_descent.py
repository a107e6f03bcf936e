"""Codes chosen once more: none is left that another one would beat, and what is not to change does not."""

import pytest
import torch
from torch import Tensor

from space.level import parse_level
from tests.workers.weights import correlated_hessian, random_weight
from workers.compress.build import build_levels
from workers.compress.builders import ggml_builder
from workers.compress.module_statistics import Statistics
from workers.compress.settling import coordinate_descent, settled_codes
from workers.compress.settling.coordinate_descent import Grid, descend

ROWS, COLUMNS = 7, 24
UNEVEN = torch.tensor([-5.0, -2.0, -0.5, 0.0, 1.0, 1.5, 4.0])


def _case() -> tuple[Tensor, Tensor, Grid]:
    """Return a weight, ranks that were rounded alone, and what they stand for; one column in five is not stored."""
    generator = torch.Generator().manual_seed(5)
    weight = random_weight(ROWS, COLUMNS)
    step, offset = torch.rand(ROWS, COLUMNS, generator=generator) + 0.3, torch.randn(ROWS, COLUMNS, generator=generator)
    step[:, ::5] = 0
    wanted = torch.where(step == 0, 0.0, (weight - offset) / step)
    return weight, (wanted[..., None] - UNEVEN).abs().argmin(-1), Grid(UNEVEN, step, offset / 5)


def _cost(weight: Tensor, ranks: Tensor, grid: Grid, inner: Tensor, outer: Tensor) -> float:
    assert grid.offset is not None
    error = (weight - grid.offset - grid.step * grid.values[ranks]).double()
    return float(torch.trace(error @ inner.double() @ error.T @ outer.double()))


@pytest.mark.parametrize("kind", ["alone", "together"])
def test_no_other_code_is_better(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given passes enough, every change of one code makes the cost larger, by its definition; unstored ones stay."""
    monkeypatch.setattr(coordinate_descent, "_PASSES", 100)
    monkeypatch.setattr(coordinate_descent, "_ENOUGH", 0)
    weight, ranks, grid = _case()
    inner, outer = correlated_hessian(COLUMNS), correlated_hessian(ROWS, seed=3) if kind == "together" else None
    metric = torch.eye(ROWS) if outer is None else outer
    given = ranks.clone()
    found = descend(weight, ranks, grid, (inner, outer))
    least = _cost(weight, found, grid, inner, metric)
    assert least < 0.9 * _cost(weight, ranks, grid, inner, metric)
    assert ranks.equal(given)
    assert found[:, ::5].equal(ranks[:, ::5])
    for row in range(ROWS):
        for column in range(COLUMNS):
            for rank in range(len(UNEVEN)):
                other = found.clone()
                other[row, column] = rank
                assert _cost(weight, other, grid, inner, metric) >= least * (1 - 1e-5)


def test_rows_that_count_alike_are_those_that_count_alone() -> None:
    """The compiled loop with the identity takes the same way as whole columns do."""
    weight, ranks, grid = _case()
    inner = correlated_hessian(COLUMNS)
    assert descend(weight, ranks, grid, (inner, torch.eye(ROWS))).equal(descend(weight, ranks, grid, (inner, None)))


@pytest.mark.parametrize("text", ["b2-g16", "b3-gch", "b3-g16-s0.5", "b3-g16-r4"])
def test_levels_lose_less_by_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Error feedback and scales alone leave more, for every kind of integer level, one-sided and two-sided."""
    weight, level = random_weight(70, 48), parse_level(text)
    for damping in (None, 0.3):
        statistics = Statistics(correlated_hessian(48), correlated_hessian(70, seed=7), {3: damping})
        (after,) = build_levels(weight, statistics, [level])
        with monkeypatch.context() as patched:
            patched.setattr(settled_codes, "_TURNS", 0)
            (before,) = build_levels(weight, statistics, [level])
        assert after.output_error < 0.97 * before.output_error
        assert {k: v.shape for k, v in after.tensors.items()} == {k: v.shape for k, v in before.tensors.items()}


@pytest.mark.parametrize("name", ["q2_K", "q4_0", "iq4_nl", "q6_K"])
def test_ggml_types_lose_less_by_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their heads stay as ggml made them; with what outputs cost, rows make good each other's errors, too."""
    weight, level = random_weight(40, 256), parse_level(name)
    statistics = Statistics(correlated_hessian(256), correlated_hessian(40, seed=7), {4: 0.3})
    (after,) = build_levels(weight, statistics, [level])
    monkeypatch.setattr(ggml_builder, "_chosen_again", lambda _, blocks, *__: blocks)
    (before,) = build_levels(weight, statistics, [level])
    assert after.output_error < 0.9 * before.output_error
    assert after.tensors["blocks"].shape == before.tensors["blocks"].shape
