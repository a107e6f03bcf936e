"""What the symbols of trellis-coded quantization stand for (Marcellin and Fischer 1990).

The 2^(bits + 1) values of a codebook are dealt in turn to four subsets. Down the rows of a column, one bit of each
symbol is a step through a trellis of eight states (Ungerboeck's code 13, 04); the last four steps decide which subset
the symbol's other bits choose from. So values behave as if they had one more bit. Steps go round in segments of 32
rows, each on its own. Shape legend: I columns.
"""

from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

SEGMENT_ROWS = 32
WINDOW = 4  # steps that decide a subset: the row's own and the three before it
SUBSETS = np.array([2 * ((w ^ w >> 1 ^ w >> 3) & 1) + (w >> 2 & 1) for w in range(16)])  # bit k: k rows before
_TRAINED = {  # Lloyd's algorithm on Gaussian values through this trellis; the upper half of a symmetric codebook
    2: (0.195, 0.595, 1.064, 1.866),
    3: (0.108, 0.3, 0.524, 0.745, 1.014, 1.328, 1.784, 2.496),
    4: (0.055, 0.155, 0.273, 0.375, 0.495, 0.606, 0.733, 0.861, 0.996, 1.145, 1.311, 1.51, 1.753, 2.052, 2.447, 3.061),
}
_SPREAD = 2.2  # variance of the Gaussian whose quantiles stand for a trained codebook where bits are many
GAUSSIAN_ERROR = {2: 0.0851, 3: 0.0233, 4: 0.0062, 5: 0.0016, 6: 0.00041, 7: 0.00011, 8: 0.00003}
"""bits -> mean squared error of unit Gaussian values"""


@lru_cache
def codebook(bits: int) -> Tensor:
    """Return the (2^(bits + 1),) float32 values, rising, for Gaussian values of variance one."""
    count = 2 ** (bits + 1)
    if bits in _TRAINED:
        upper = list(_TRAINED[bits])
    else:
        quantiles = [NormalDist(0, _SPREAD**0.5).inv_cdf((j + 0.5) / count) for j in range(count // 2, count)]
        upper = [round(value, 4) for value in quantiles]
    return torch.tensor([-value for value in reversed(upper)] + upper)


def window_rows(rows: Tensor, num_rows: int) -> Tensor:
    """Return the (4, n) rows whose steps decide the subsets of (n,) rows: themselves, the one before, and so on."""
    start = rows // SEGMENT_ROWS * SEGMENT_ROWS
    length = (num_rows - start).clamp_max(SEGMENT_ROWS)
    return torch.stack([start + (rows - start - k) % length for k in range(WINDOW)])


def decode(symbols: Tensor, steps: Sequence[Tensor], bits: int) -> Tensor:
    """Return the (n, I) float32 values of symbols.

    Args:
        symbols: (n, I) int16 in [0, 2^bits).
        steps: four (n, I) int16 planes of bits: of the rows themselves, and of those one, two and three before.
        bits: of a symbol.

    """
    subset = (steps[0] ^ steps[1] ^ steps[3]).mul_(2).add_(steps[2])
    indices = (symbols >> 1).mul_(4).add_(subset).to(torch.int32)
    return codebook(bits).to(symbols.device).index_select(0, indices.flatten()).view(symbols.shape)
