"""Codes chosen once more after rounding, one by one, all others as they are: what errors cost falls with each change.

Error feedback decides columns in one order and never looks back. Here each code of the finished weight goes to what is
best beside all the others: coordinate descent on tr(E H_in Eᵀ H_out) (QuantEase, arXiv 2309.01885, for rows that count
alone; with H_out rows make good each other's errors, too). Columns with the most energy come first.
Shape legend: O out_features, I in_features, K values that a code may stand for.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workers.kernels.compiled import compiled

_PASSES = 1  # of each turn; three of them gain 2 to 3 % more and take three times as long
_BLOCK = 64  # columns whose slopes are computed together
_ENOUGH = 0.0005  # of the codes: a pass that changes fewer is the last one
Floats = NDArray[np.float32]
Whole = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Grid:
    """What the codes of a weight stand for: `offset + step * values[rank]`.

    Attributes:
        values: (K,) float32, rising.
        step: (O, I) float32; zero where nothing is stored, or where a code stays as it is.
        offset: the same; None is zero.

    """

    values: Tensor
    step: Tensor
    offset: Tensor | None = None


def descend(weight: Tensor, ranks: Tensor, grid: Grid, metrics: tuple[Tensor, Tensor | None]) -> Tensor:
    """Return (O, I) int64 ranks whose error costs no more.

    Args:
        weight: (O, I) float32.
        ranks: (O, I) int64, which of the values each code stands for now.
        grid: what they stand for.
        metrics: (I, I) of inputs and (O, O) of outputs; None counts all rows alike.

    """
    inner, outer = metrics
    error = weight - grid.step * grid.values[ranks]
    if grid.offset is not None:
        error -= grid.offset
    cost = error @ inner
    order = torch.argsort(inner.diagonal(), descending=True, stable=True)
    passing = _rows_alone if outer is None else _rows_together
    found = ranks.clone(memory_format=torch.contiguous_format)
    for _ in range(_PASSES):
        if passing(found, cost, grid, inner, outer, order) <= _ENOUGH * found.numel():
            break
    return found


def _rows_alone(ranks_oi: Tensor, cost_oi: Tensor, grid: Grid, inner: Tensor, _: Tensor | None, order: Tensor) -> int:
    """Take all rows at once, column by column; return the number of changes."""
    changes, middles = 0, (grid.values[1:] + grid.values[:-1]) / 2
    for column in order.tolist():
        energy, step = inner[column, column], grid.step[:, column]
        if energy <= 0:
            continue
        wanted = grid.values[ranks_oi[:, column]] + torch.where(step == 0, 0.0, cost_oi[:, column] / energy / step)
        best = torch.bucketize(wanted, middles)
        changed = ((best != ranks_oi[:, column]) & (step != 0)).nonzero()[:, 0]
        change = grid.values[ranks_oi[changed, column]] - grid.values[best[changed]]
        cost_oi[changed] += torch.outer(change * step[changed], inner[column])
        ranks_oi[changed, column] = best[changed]
        changes += len(changed)
    return changes


def _rows_together(
    ranks_oi: Tensor, cost_oi: Tensor, grid: Grid, inner: Tensor, outer: Tensor | None, order: Tensor
) -> int:
    """Take value by value, on a CPU; return the number of changes."""
    assert outer is not None  # noqa: S101 (else rows do not know of each other)
    arrays: list[Any] = [x.contiguous().numpy() for x in (grid.values, grid.step, inner, outer)]
    changes = 0
    for columns in order.split(_BLOCK):
        slopes = (cost_oi[:, columns].T @ outer).contiguous()  # together: one by one they take ten times as long
        moving: list[Any] = [x.numpy() for x in (columns, ranks_oi, cost_oi, slopes)]
        changes += compiled(_change_block)(*moving, *arrays)
    return changes


def _change_block(
    columns: Whole,
    ranks: Whole,
    cost: Floats,
    slopes: Floats,
    values: Floats,
    step: Floats,
    inner: Floats,
    outer: Floats,
) -> int:
    """Change (O, I) ranks in some columns, the (O, I) E H_in of their errors and the columns' slopes; count changes.

    Slopes are half of how costs change with the errors of a column: its row of the transposed H_out E H_in.
    """
    changes, rows = 0, len(ranks)
    for place in range(len(columns)):
        column, slope = columns[place], slopes[place]
        energy, first = inner[column, column], slope.copy()
        if energy <= 0:
            continue
        for a in range(rows):
            size, before, bend = step[a, column], ranks[a, column], energy * outer[a, a]
            rank = before if size == 0 or bend <= 0 else _best(values, before, slope[a] / (bend * size))
            if rank != before:
                changes, change = changes + 1, (values[before] - values[rank]) * size
                ranks[a, column] = rank
                _carry(slope, outer[a], energy * change)
                _carry(cost[a], inner[column], change)
        first = (slope - first) / energy
        for later in range(place + 1, len(columns)):
            _carry(slopes[later], first, inner[column, columns[later]])
    return changes


def _best(values: Floats, rank: int, away: np.floating[Any]) -> int:
    """Return which of the rising values is nearest to one that lies some way from that of a rank."""
    wanted = values[rank] + away
    while rank < len(values) - 1 and wanted > (values[rank] + values[rank + 1]) / 2:
        rank += 1
    while rank > 0 and wanted < (values[rank] + values[rank - 1]) / 2:
        rank -= 1
    return rank


def _carry(target: Floats, row: Floats, times: np.floating[Any]) -> None:
    for k in range(len(row)):
        target[k] += times * row[k]
