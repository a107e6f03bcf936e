"""What memory is worth: how much less a model would lose if the budget were a little larger, from measured points."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import expm1, floor, log, log10

from space.results.front import KL_FLOOR, Point, non_dominated

_STEP_SHARE = 0.01  # of the size: what "a little larger" means
_WINDOW = 0.12  # points within this share of the size tell the price there
_NICE = (1, 2, 5, 10)
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class MarginalPrice:
    """What `step_bytes` more would lower the KL divergence by."""

    step_bytes: int
    kl_divergence_drop: float

    def __str__(self) -> str:
        """Return it in words.

        >>> str(MarginalPrice(100_000_000, 0.00213))
        '100 MB more would lower KL by 0.00213'
        """
        return f"{format_step(self.step_bytes)} more would lower KL by {self.kl_divergence_drop:.3g}"


def marginal_price(points: Sequence[Point], size_bytes: float) -> MarginalPrice | None:
    """Return the price at the best (bytes, KL) point within a size, or None where fewer than two points tell it.

    The logarithm of KL is nearly linear in bytes: a line through the front's points near the best one gives its slope.
    """
    front = [points[i] for i in non_dominated(points)]
    fitting = [p for p in front if p[0] <= size_bytes]
    if not fitting or len(front) < 2:  # noqa: PLR2004 (a line needs two)
        return None
    best = fitting[-1]
    slope = _log_slope(_near(front, best))
    step = nice_step(best[0])
    return MarginalPrice(step, -max(best[1], 0.0) * expm1(slope * step))


def nice_step(size_bytes: float) -> int:
    """Return about a hundredth of a size, as a round number of bytes.

    >>> nice_step(3_000_000), nice_step(10_000_000_000), nice_step(2**32)
    (20000, 100000000, 50000000)
    """
    wanted = max(1.0, _STEP_SHARE * size_bytes)
    power = int(10.0 ** floor(log10(wanted)))
    return min((n * power for n in _NICE), key=lambda step: abs(log(step / wanted)))


def format_step(step_bytes: int) -> str:
    """Return a round number of bytes in decimal units.

    >>> format_step(20_000), format_step(500)
    ('20 kB', '500 B')
    """
    power = min(len(_UNITS) - 1, (len(str(step_bytes)) - 1) // 3)
    return f"{step_bytes / 1000**power:g} {_UNITS[power]}"


def _near(front: Sequence[Point], best: Point) -> list[Point]:
    """Return the points of a front near one of them, with the next larger or smaller one if there is no other."""
    near = [p for p in front if abs(p[0] - best[0]) <= _WINDOW * best[0]]
    if len(near) > 1:
        return near
    index = front.index(best)
    return [best, front[index + 1] if index + 1 < len(front) else front[index - 1]]


def _log_slope(points: Sequence[Point]) -> float:
    """Return the slope of the least-squares line of log KL over bytes."""
    logs = [log(max(kl, KL_FLOOR)) for _, kl in points]
    middle = sum(size for size, _ in points) / len(points)
    offsets = [size - middle for size, _ in points]
    return sum(o * v for o, v in zip(offsets, logs, strict=True)) / sum(o * o for o in offsets)
