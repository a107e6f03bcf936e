"""Rounding tile by tile with error feedback: LDLQ in blocks of 16 (QuIP#, arXiv 2402.04396), on both sides if asked.

The loss of an error E is tr(Eᵀ A E B) with A of the inputs and B of the outputs. With A = L D Lᵀ and B = M C Mᵀ in
unit lower triangular blocks, a tile's wanted value is its weight plus what (Lᵀ E M) carries to it from the tiles
rounded before, all of higher rows or columns (YAQA, arXiv 2505.22988, section 3; M = 1 without a factor of outputs).
Shape legend: I in_features (rows here), O out_features (columns here), T tiles, A, C rows and columns of tiles.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from workers.kernels.exl3.exl3_code import TILE

RoundTiles = Callable[[Tensor, Tensor], Tensor]
"""((T,) numbers of tiles, row by row, (T, 16, 16) wanted values) -> (T, 16, 16) values"""


def block_factor(metric: Tensor) -> Tensor:
    """Return the (I, I) unit lower triangular L of metric = L D Lᵀ, D of blocks of 16, in float32.

    The metric is positive definite.
    """
    root = torch.linalg.cholesky(metric.double())
    own = torch.stack([root[i : i + TILE, i : i + TILE] for i in range(0, len(root), TILE)])
    inverse = torch.linalg.solve_triangular(own, torch.eye(TILE, dtype=own.dtype, device=own.device), upper=False)
    factor: Tensor = torch.cat([root[:, i * TILE : (i + 1) * TILE] @ block for i, block in enumerate(inverse)], 1)
    return factor.float()


def round_tiles(weight: Tensor, inputs: Tensor, outputs: Tensor | None, rounded: RoundTiles) -> Tensor:
    """Return the (I, O) values of a weight after rounding all of its tiles, the last first.

    Args:
        weight: (I, O) float32.
        inputs: (I, I) factor of the inputs' metric, of `block_factor`.
        outputs: (O, O) factor of the outputs' metric; None: outputs do not know of each other.
        rounded: rounds tiles that do not wait for each other.

    """
    rows, columns = weight.shape[0] // TILE, weight.shape[1] // TILE
    if outputs is None:
        return _row_by_row(weight, inputs, rounded)
    carried, error = torch.zeros_like(weight), torch.empty_like(weight)
    for a, c in _diagonals(rows, columns, weight.device):
        wanted = _tiles(weight)[a, c] + _tiles(carried)[a, c]
        values = rounded(a * columns + c, wanted)
        _tiles(error)[a, c] = own = _tiles(weight)[a, c] - values
        top, left = int(a.max()) * TILE + TILE, int(c.max()) * TILE + TILE  # what lies below or behind is done
        across = torch.einsum("tij,tjo->tio", own, outputs.view(columns, TILE, -1)[c][:, :, :left])
        down = inputs.view(rows, TILE, -1)[a][:, :, :top].reshape(-1, top)
        carried[:top, :left].addmm_(down.T, across.reshape(-1, left))
    return weight - error


def _row_by_row(weight: Tensor, inputs: Tensor, rounded: RoundTiles) -> Tensor:
    columns, error = weight.shape[1] // TILE, torch.empty_like(weight)
    across = torch.arange(columns, device=weight.device)
    for start in range(len(weight) - TILE, -1, -TILE):
        own, after = slice(start, start + TILE), slice(start + TILE, None)
        wanted = weight[own] + inputs[after, own].T @ error[after]
        values = rounded(start // TILE * columns + across, wanted.view(TILE, columns, TILE).transpose(0, 1))
        error[own] = weight[own] - values.transpose(0, 1).reshape(TILE, -1)
    return weight - error


def _tiles(matrix: Tensor) -> Tensor:
    """Return an (I, O) matrix as (A, C, 16, 16), the same memory."""
    return matrix.view(len(matrix) // TILE, TILE, -1, TILE).transpose(1, 2)


def _diagonals(rows: int, columns: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tiles of each anti-diagonal, rows and columns, the last corner first."""
    for total in range(rows + columns - 2, -1, -1):
        a = torch.arange(max(0, total - columns + 1), min(rows - 1, total) + 1, device=device)
        yield a, total - a
