"""Mean products of changes, from sketches of different lengths, shrunk by their noise."""

from collections.abc import Sequence

import numpy as np

_TINY = 1e-30


def products_of(changes: Sequence[np.ndarray]) -> np.ndarray:
    """Return (probes, probes) mean products of changes: lengths from all text of each, angles from what two share.

    Angles from different texts need not be those of any vectors: they are those of the nearest ones that are.
    """
    cosine, length = np.zeros((len(changes), len(changes))), np.zeros(len(changes))
    sizes = sorted({change.size for change in changes})
    for size in sizes:
        rows = [i for i, change in enumerate(changes) if change.size >= size]
        shared = np.stack([changes[i][:size] for i in rows])
        cosine[np.ix_(rows, rows)], length[rows] = _shrunk_cosines(shared)
    products: np.ndarray = (cosine if len(sizes) == 1 else _of_vectors(cosine)) * np.outer(length, length)
    return products


def _of_vectors(cosine: np.ndarray) -> np.ndarray:
    """Return cosines without negative eigenvalues: a walk along one of these would gain without end."""
    values, vectors = np.linalg.eigh(cosine)
    if values[0] >= 0:
        return cosine
    clipped = (vectors * np.maximum(values, 0)) @ vectors.T
    length = np.sqrt(clipped.diagonal())
    found: np.ndarray = clipped / np.outer(length, length)
    return found


def _shrunk_cosines(changes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (probes, probes) cosines, times their split-half reliability (Spearman-Brown), and (probes,) lengths."""
    half = changes.shape[1] // 2
    first = changes[:, :half] @ changes[:, :half].T
    second = changes[:, half:] @ changes[:, half:].T
    reliability = _agreement(first, second)
    length = np.sqrt((first + second).diagonal() / changes.shape[1])
    cosine = (first + second) / (changes.shape[1] * np.outer(length, length) + _TINY)
    cosine *= 2 * reliability / (1 + reliability)
    np.fill_diagonal(cosine, 1.0)
    return cosine, length


def _agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the correlation of two matrices' normalized entries off the diagonal, at least zero."""
    off = ~np.eye(len(first), dtype=bool)
    normalized = [m / np.sqrt(np.outer(m.diagonal(), m.diagonal()) + _TINY) for m in (first, second)]
    a, b = (m[off] - m[off].mean() if off.any() else np.zeros(1) for m in normalized)
    return max(0.0, float(a @ b / np.sqrt((a @ a) * (b @ b) + _TINY)))
