"""Scales after rounding: the least squares solution, in groups, with and without a factor of outputs."""

import pytest
import torch

from space.level import Level
from tests.workers.weights import correlated_hessian, random_weight
from workers.compress.settling import scale_refit
from workers.compress.settling.scale_refit import refitted_scales
from workers.kernels.unpack import column_scale

ROWS, COLUMNS = 6, 40


@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("two_sided", [False, True])
def test_scales_are_the_least_squares_solution(
    group_size: int | None,
    two_sided: bool,  # noqa: FBT001 (pytest's)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Solved densely from the definition, tr(E H_in Eᵀ H_out), given steps enough; the last group is shorter."""
    monkeypatch.setattr(scale_refit, "_STEPS", {True: 50, False: 50})
    weight, level = random_weight(ROWS, COLUMNS), Level(3, group_size)
    groups = -(-COLUMNS // (group_size or COLUMNS))
    scale = (weight.abs().amax(1, keepdim=True).expand(ROWS, groups) / 4).half()
    spread = column_scale(scale, level, COLUMNS)
    values = (weight / spread).round().clamp(-4, 3)
    inner, outer = correlated_hessian(COLUMNS), correlated_hessian(ROWS, seed=3) if two_sided else None
    metric = torch.eye(ROWS) if outer is None else outer

    found = refitted_scales(weight, values * spread, scale, level, (inner, outer))

    whole = torch.kron(metric.double(), inner.double())  # of the weight as one vector, row by row
    basis = torch.zeros(ROWS * COLUMNS, ROWS * groups, dtype=torch.float64)
    for row in range(ROWS):
        for column in range(COLUMNS):
            group = row * groups + column // (group_size or COLUMNS)
            basis[row * COLUMNS + column, group] = values[row, column].double()
    solved = torch.linalg.solve(basis.T @ whole @ basis, basis.T @ whole @ weight.double().flatten())
    torch.testing.assert_close(found.double(), solved.view(ROWS, groups), rtol=5e-3, atol=1e-4)
    assert found.dtype == torch.float16


def test_what_cannot_be_bettered_stays() -> None:
    """Rounding without an error, and rows of zeros."""
    scale = torch.full((ROWS, 1), 0.5).half()
    values = torch.randint(-4, 4, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(0)).float()
    values[2], scale[2] = 0, 0
    weight = values * scale.float()
    assert refitted_scales(weight, weight, scale, Level(3), (correlated_hessian(COLUMNS), None)).equal(scale)
