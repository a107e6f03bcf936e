"""Rounding that knows of outputs too: within each column errors of rows are made good by other rows.

GPTQ's feedback along columns stays as it is: it needs the error against what was wanted of a column before its rows
made up for each other, which is what it gets (arXiv 2505.22988, section 4; see `row_feedback`).

Shape legend: N stacked rows (levels x O), V levels, O rows of one level.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from space.level import Level
from workers.compress.builders.row_feedback import round_integers, round_trellis
from workers.compress.gptq import Rounder
from workers.compress.rounding_outputs import Outputs
from workers.kernels.compiled import compiled
from workers.kernels.trellis_code import SEGMENT_ROWS, SUBSETS, codebook

_MAX_VALUES = 128  # of a subset of a codebook of 8 bits


def two_sided_integers(levels: Sequence[Level], outputs: Outputs) -> Rounder:
    """Return the rounding of a column to integers."""
    rounding, order = compiled(round_integers), outputs.order
    back = torch.argsort(order)
    factors, which = outputs.factors(levels, 1)
    half = np.array([2.0 ** ((level.bits or 8) - 1) for level in levels], np.float32)

    def round_column(targets: Tensor, scale: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        wanted, scales, kept = (x.view(len(levels), -1)[:, order].numpy() for x in _parts(targets, scale, keep))
        codes = torch.from_numpy(rounding(wanted, scales, kept, half, factors, which))[:, back].flatten()
        return codes, codes

    return round_column


def two_sided_trellis(levels: Sequence[Level], outputs: Outputs) -> Rounder:
    """Return the rounding of a column to a trellis: of each segment at once, the last one first."""
    rounding = compiled(round_trellis)
    factors, which = outputs.factors(levels, SEGMENT_ROWS)
    half = np.array([2 ** ((level.bits or 8) - 1) for level in levels])
    codebooks = np.zeros((len(levels), 4, _MAX_VALUES), np.float32)
    for index, level in enumerate(levels):
        values = codebook(level.bits or 8).numpy()
        for subset in range(4):
            codebooks[index, subset, : half[index]] = values[subset::4]
    subset_of = SUBSETS.astype(np.int64)

    def round_column(targets: Tensor, scale: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        wanted, scales, kept = (x.view(len(levels), -1).numpy() for x in _parts(targets, scale, keep))
        found = rounding(wanted, scales, kept, codebooks, half, factors, which, subset_of)
        symbols, values = (torch.from_numpy(x).flatten() for x in found)
        return symbols, values

    return round_column


def _parts(targets: Tensor, scale: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return (N,) wanted values, scales, and ones where kept."""
    wanted = targets.nan_to_num(0.0, 0.0, 0.0) * scale
    return wanted, scale, torch.ones_like(wanted) if keep is None else keep
