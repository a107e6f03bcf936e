"""Rounding to a trellis: a whole column is decided at once, with the error feedback of QTIP (arXiv 2406.11235).

So the error feedback of GPTQ loses nothing. What symbols stand for is in `trellis_code`.
Shape legend: N stacked rows (levels x O), O rows of one level, B segments, T rows of one segment.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from workers.kernels.trellis_code import SEGMENT_ROWS, SUBSETS, WINDOW, codebook

_NEVER = np.float32(1e30)


class TrellisRounder:
    """Rounds one column of stacked levels: the best way through the trellis for each segment of rows."""

    def __init__(self, bits: Sequence[int], rows: int, device: torch.device | None = None) -> None:
        """Take the bits of each level; all have the same number of rows."""
        self._rows = rows
        self._halves = torch.tensor([2.0 ** (b - 1) for b in bits], device=device).repeat_interleave(rows)
        self._subsets = [[codebook(b)[z::4].contiguous().to(device) for z in range(4)] for b in bits]
        self._subset_of = torch.from_numpy(SUBSETS).to(device)
        self._middles = [[(values[1:] + values[:-1]) / 2 for values in subsets] for subsets in self._subsets]

    def __call__(self, targets: Tensor, scale: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (N,) signed symbols and the values that they stand for.

        Args:
            targets: (N,) wanted values in units of the scale; not a number where the scale is zero.
            scale: (N,) weight of each row's error.
            keep: (N,) one where kept, zero where pruned; None keeps all.

        """
        wanted = targets.nan_to_num(0.0, 0.0, 0.0)
        indices, values = self._nearest(wanted)
        costs = (values - wanted).mul_(scale).square_()
        pruned = None if keep is None else keep.cpu().numpy() == 0
        windows = torch.from_numpy(self._best_windows(costs.cpu().numpy(), pruned)).to(costs.device)
        subsets = self._subset_of[windows][None]
        symbols = indices.gather(0, subsets)[0] * 2 + (windows & 1) - self._halves
        found = values.gather(0, subsets)[0]
        return (symbols, found) if keep is None else (symbols * keep, found * keep)

    def _nearest(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Return (4, N) indices and values of the nearest value in each subset."""
        indices, values = [], []
        for part, subsets, middles in zip(wanted.split(self._rows), self._subsets, self._middles, strict=True):
            found = [torch.bucketize(part, middle) for middle in middles]
            indices.append(torch.stack(found))
            values.append(torch.stack([subset[i] for subset, i in zip(subsets, found, strict=True)]))
        return torch.cat(indices, 1), torch.cat(values, 1)

    def _best_windows(self, costs: np.ndarray, pruned: np.ndarray | None) -> np.ndarray:
        """Return (N,) windows: bit k is the step taken k rows before."""
        levels = costs.shape[1] // self._rows
        full = self._rows // SEGMENT_ROWS * SEGMENT_ROWS
        windows = np.empty((levels, self._rows), np.int64)
        by_level = costs.reshape(4, levels, self._rows)
        for start, stop, length in ((0, full, SEGMENT_ROWS), (full, self._rows, self._rows - full)):
            if start == stop:
                continue
            part = by_level[:, :, start:stop].reshape(4, -1, length).transpose(2, 0, 1)[:, SUBSETS]
            if pruned is not None:  # a pruned weight takes the step 0 and costs nothing
                at = pruned.reshape(levels, -1)[:, start:stop].reshape(-1, length).T[:, None]
                odd = np.arange(16)[None, :, None] & 1
                part = np.where(at, odd * _NEVER, part)
            windows[:, start:stop] = _cheapest_round(part).reshape(levels, -1)
        return windows.reshape(-1)


def _cheapest_round(costs_twb: np.ndarray) -> np.ndarray:
    """Return the (B, T) windows of the cheapest way round each segment: Viterbi's algorithm, from every state at once.

    Args:
        costs_twb: (T, 16, B) cost of each window at each row.

    """
    length, _, segments = costs_twb.shape
    branches = np.ascontiguousarray(costs_twb, np.float32).reshape(length, 2, 4, 2, 1, segments)
    every = np.arange(8)
    total = np.full((8, 8, segments), _NEVER, np.float32)  # state now, state at the start
    total[every, every] = 0
    taken = np.zeros((8, 8, segments), np.int64)  # the steps so far as bits
    step = np.array([0, 1]).reshape(1, 2, 1, 1)
    both = np.empty((2, 4, 2, 8, segments), np.float32)
    for t in range(length):
        np.add(total.reshape(2, 4, 1, 8, segments), branches[t], out=both)
        second = both[1] < both[0]
        total = np.minimum(both[0], both[1])
        before = taken.reshape(2, 4, 1, 8, segments)
        taken = (np.where(second, before[1], before[0]) << 1 | step).reshape(8, 8, segments)
    best = total.reshape(8, 8, segments)[every, every].argmin(0)
    bits = taken[best, best, np.arange(segments)]
    rows = np.arange(length)
    steps = bits[:, None] >> (length - 1 - rows) & 1
    return np.asarray(sum(steps[:, (rows - k) % length] << k for k in range(WINDOW)))
