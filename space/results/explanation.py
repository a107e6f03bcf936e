"""Why each module of a plan has its level: values that the search makes and every face shows."""

from dataclasses import asdict, dataclass
from typing import Any

from space.question import KL, Metric


@dataclass(frozen=True, slots=True)
class Move:
    """Another level that a module could have.

    Attributes:
        level: its text form.
        bytes_change: stored bytes more (above zero) or less.
        kl_change: predicted KL divergence more or less.

    """

    level: str
    bytes_change: int
    kl_change: float

    @property
    def rate(self) -> float:
        """Return KL divergence per byte that the move trades."""
        return -self.kl_change / self.bytes_change


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one module has its level.

    Attributes:
        module: its name.
        level: its level.
        kl_share: its share of the plan's predicted loss, 0-1: its sensitivity at this level.
        kl_divergence: that share of the plan's measured KL divergence.
        size_bytes: stored bytes.
        saved_bytes: bytes less than in the dense checkpoint.
        up: the next larger level worth having, or None.
        down: the next smaller one, or None.
        why: one sentence.

    """

    module: str
    level: str
    kl_share: float
    kl_divergence: float
    size_bytes: int
    saved_bytes: int
    up: Move | None
    down: Move | None
    why: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why each module of a point has its level, the most costly ones first.

    Attributes:
        point: name of the point.
        kl_divergence: as measured; the modules' shares add up to it.
        predicted_kl_divergence: what the additive model says of the plan: far from the measured one, its losses do
            not simply add, and the shares are rough.
        going_rate: KL divergence that one byte more or less is worth at this size.
        modules: one reason per module.
        metric: what is called KL divergence here.

    """

    point: str
    kl_divergence: float
    predicted_kl_divergence: float
    going_rate: float
    modules: tuple[Reason, ...]
    metric: Metric = KL

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(value: dict[str, Any]) -> "Explanation":
        """Read the JSON object."""
        metric = Metric(**value["metric"]) if "metric" in value else KL
        return Explanation(**{**value, "modules": tuple(map(_reason, value["modules"])), "metric": metric})


def _reason(value: dict[str, Any]) -> Reason:
    moves = {name: Move(**value[name]) if value[name] else None for name in ("up", "down")}
    return Reason(**{**value, **moves})


def format_times(rate: float, going_rate: float) -> str:
    """Return a rate in terms of the going one.

    >>> format_times(3.14, 2.0), format_times(300.0, 2.0), format_times(-1.0, 2.0), format_times(0.1, 2.0)
    ('1.6x', '150x', 'free', '0.05x')
    """
    if rate <= 0:
        return "free"
    if going_rate <= 0:
        return "above all"
    times = rate / going_rate
    return f"{times:,.0f}x" if times >= 10 else f"{times:.2g}x"  # noqa: PLR2004 (readable as a decimal)
