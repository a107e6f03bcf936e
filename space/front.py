"""Pareto geometry in two objectives, both minimised: bytes and KL divergence."""

import random
from collections.abc import Sequence
from math import log10

Point = tuple[float, float]
KL_FLOOR = 1e-9


def non_dominated(points: Sequence[Point]) -> list[int]:
    """Return the indices of the non-dominated points, by rising first objective; of equal points the first one.

    >>> non_dominated([(2, 1), (1, 2), (2, 3), (3, 1)])
    [1, 0]
    """
    front: list[int] = []
    best = float("inf")
    for index in sorted(range(len(points)), key=lambda i: (points[i], i)):
        if points[index][1] < best:
            front.append(index)
            best = points[index][1]
    return front


def hypervolume(points: Sequence[Point], reference_point: Point) -> float:
    """Return the area dominated by the points below the reference point.

    >>> hypervolume([(1, 2), (2, 1)], (3, 3))
    3.0
    """
    area, ceiling = 0.0, reference_point[1]
    for index in non_dominated(points):
        x, y = points[index]
        if x < reference_point[0] and y < ceiling:
            area += (reference_point[0] - x) * (ceiling - y)
            ceiling = y
    return area


def front_hypervolume(points: Sequence[Point], reference_point: Point, smallest_bytes: float) -> float:
    """Return the hypervolume of (bytes, KL) points in (bytes, log10 KL), as a share of the reference box.

    The box reaches from `smallest_bytes` to the reference bytes, and over six decades below the reference KL.
    """
    decades = 6.0
    reference_log = log10(max(reference_point[1], KL_FLOOR))
    logged = [(size, max(log10(max(kl, KL_FLOOR)), reference_log - decades)) for size, kl in points]
    box = (reference_point[0] - smallest_bytes) * decades
    return hypervolume(logged, (reference_point[0], reference_log)) / box if box > 0 else 0.0


def bootstrap_interval(values: Sequence[float], seed: int = 0, num_resamples: int = 1000) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of the mean of per-sequence values."""
    count = len(values)
    rng = random.Random(seed)  # noqa: S311 (statistics, not secrets)
    means = sorted(sum(rng.choices(values, k=count)) / count for _ in range(num_resamples))
    return means[int(0.025 * num_resamples)], means[int(0.975 * num_resamples) - 1]


def paired_interval(ours: Sequence[float], theirs: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of mean(ours - theirs) over the same sequences: wholly above zero is measurably worse.

    Raises:
        ValueError: the two were not measured on the same sequences.

    """
    return bootstrap_interval([a - b for a, b in zip(ours, theirs, strict=True)], seed)
