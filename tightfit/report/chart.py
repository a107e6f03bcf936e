"""The front as an inline SVG: size against KL divergence, log scale, with uniform plans and the budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, hypot, log10

from space.budget import format_bytes
from space.errors import SpecError
from space.level import parse_level
from space.results.document import FrontDocument, FrontPoint, UniformPoint

MIB = 2**20
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 30, 46
_FEW_DECADES = 2.5
_MANY_POINTS = 24
_SMALL = 3.0
_WIDEST_REACH = 12.0


@dataclass(frozen=True, slots=True)
class _Frame:
    """Pixels of (bytes, KL): `left`..`right` bytes and `low`..`high` log10 of KL fill the plot area."""

    width: int
    height: int
    left: float
    right: float
    low: float
    high: float

    def x(self, size_bytes: float) -> float:
        """Return the pixel column of a size."""
        share = (size_bytes - self.left) / (self.right - self.left)
        return round(_LEFT + share * (self.width - _LEFT - _RIGHT), 1)

    def y(self, kl_divergence: float) -> float:
        """Return the pixel row of a KL divergence; what is below the axis (or not positive) lies on it."""
        log = max(self.low, log10(kl_divergence)) if kl_divergence > 0 else self.low
        share = (min(log, self.high) - self.low) / (self.high - self.low)
        return round(self.height - _BOTTOM - share * (self.height - _TOP - _BOTTOM), 1)


def front_chart(document: FrontDocument, width: int, height: int, dots: Sequence[tuple[float, float]] = ()) -> str:
    """Return the chart as an `<svg>` element of the given pixel size; `dots` are (bytes, KL) of all that was tried."""
    frame = _frame(document, width, height)
    best = document.recommended
    marks = sorted(document.front, key=lambda p: p is best)  # the last one lies on top
    radius = 4.5 if len(document.front) <= _MANY_POINTS else _SMALL
    label = f"{len(document.front)} front points and {len(document.uniform)} uniform plans"
    parts = [
        (
            f'<svg class="chart" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="group" '
            f'aria-label="Pareto front: size against KL divergence, {label}">'
        ),
        *_y_axis(frame),
        *_x_axis(frame),
        *_pale_dots(frame, dots),
        *_budget_line(frame, document.budget_bytes),
        *_front_line(frame, document.front),
        *(_uniform_mark(frame, u) for u in document.uniform),
        *(_front_mark(frame, p, radius, _reach(frame, document.front, p, radius)) for p in marks),
        "</svg>",
    ]
    return "".join(parts)


def uniform_label(level: str) -> str:
    """Return how a uniform level is called in a chart.

    >>> uniform_label("b4-g64"), uniform_label("odd")
    ('4 bit', 'odd')
    """
    try:
        bits = parse_level(level).bits
    except SpecError:
        return level
    return "dense" if bits is None else f"{bits} bit"


def format_kl(value: float) -> str:
    """Return a KL divergence with three significant digits.

    >>> format_kl(0.73926), format_kl(12.0), format_kl(0.000961), format_kl(0)
    ('0.739', '12.0', '9.61e-4', '0')
    """
    if value == 0:
        return "0"
    if abs(value) < 1e-3:  # noqa: PLR2004 (readable as a decimal)
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    digits = max(0, 2 - floor(log10(abs(value))))
    return f"{value:.{digits}f}"


def _frame(document: FrontDocument, width: int, height: int) -> _Frame:
    points: list[FrontPoint | UniformPoint] = [*document.front, *document.uniform]
    sizes = [p.size_bytes for p in points] + [document.budget_bytes]
    pad = max(1.0, 0.05 * (max(sizes) - min(sizes)))
    values = [v for p in points for v in (p.kl_divergence, *p.kl_divergence_ci95) if v > 0]
    low, high = log10(min(values, default=1e-3)), log10(max(values, default=1.0))
    margin = max(0.08, 0.04 * (high - low))
    return _Frame(width, height, max(0.0, min(sizes) - pad), max(sizes) + pad, low - margin, high + margin)


def _y_axis(frame: _Frame) -> list[str]:
    steps = (1, 2, 5) if frame.high - frame.low < _FEW_DECADES else (1,)
    ticks = [step * 10.0**power for power in range(floor(frame.low), ceil(frame.high) + 1) for step in steps]
    parts = []
    for tick in ticks:
        if frame.low <= log10(tick) <= frame.high:
            y = frame.y(tick)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{frame.width - _RIGHT}" y1="{y}" y2="{y}"/>')
            text = f"{tick:g}" if tick >= 1e-4 else f"1e{round(log10(tick))}"  # noqa: PLR2004 (readable as a decimal)
            parts.append(f'<text class="tick" x="{_LEFT - 9}" y="{y + 4}" text-anchor="end">{text}</text>')
    parts.append(f'<text class="axis" x="{_LEFT - 44}" y="14">KL divergence, nats per token (log)</text>')
    return parts


def _x_axis(frame: _Frame) -> list[str]:
    left, right = frame.left / MIB, frame.right / MIB
    step = _nice_step((right - left) / max(3, frame.width // 110))
    base = frame.height - _BOTTOM
    parts = [f'<line class="base" x1="{_LEFT}" x2="{frame.width - _RIGHT}" y1="{base}" y2="{base}"/>']
    for number in range(ceil(left / step), floor(right / step) + 1):
        x = frame.x(number * step * MIB)
        decimals = max(0, -floor(log10(step)))
        parts.append(f'<line class="base" x1="{x}" x2="{x}" y1="{base}" y2="{base + 4}"/>')
        text = f"{number * step:,.{decimals}f}"
        parts.append(f'<text class="tick" x="{x}" y="{base + 19}" text-anchor="middle">{text}</text>')
    parts.append(f'<text class="axis" x="{frame.width - _RIGHT}" y="{base + 38}" text-anchor="end">Size, MiB</text>')
    return parts


def _nice_step(rough: float) -> float:
    power = 10.0 ** floor(log10(rough)) if rough > 0 else 1.0
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def _budget_line(frame: _Frame, budget_bytes: int) -> list[str]:
    x, anchor = frame.x(budget_bytes), "start"
    inside = _LEFT <= x <= frame.width - _RIGHT
    if x > frame.width * 0.6:
        anchor = "end"
    offset = 6 if anchor == "start" else -6
    text = f"budget {format_bytes(budget_bytes)}"
    return [
        f'<line class="budget" x1="{x}" x2="{x}" y1="{_TOP - 4}" y2="{frame.height - _BOTTOM}"/>',
        f'<text class="budget-label" x="{x + offset}" y="{_TOP + 8}" text-anchor="{anchor}">{text}</text>',
    ] * inside


def _pale_dots(frame: _Frame, dots: Sequence[tuple[float, float]]) -> list[str]:
    """Return the (bytes, KL) points that lie inside the frame; those on the same pixel are one."""
    inside = {
        (round(frame.x(size)), round(frame.y(kl)))
        for size, kl in dots
        if frame.left <= size <= frame.right and kl > 0 and frame.low <= log10(kl) <= frame.high
    }
    path = "".join(f"M{x} {y}h0" for x, y in sorted(inside))
    return [f'<path class="dots" d="{path}"/>'] if path else []


def _front_line(frame: _Frame, front: Sequence[FrontPoint]) -> list[str]:
    ordered = sorted(front, key=lambda p: p.size_bytes)
    path = " ".join(f"{frame.x(p.size_bytes)},{frame.y(p.kl_divergence)}" for p in ordered)
    return [f'<polyline class="front-line" points="{path}"/>'] if len(ordered) > 1 else []


def _whisker(frame: _Frame, point: FrontPoint | UniformPoint) -> str:
    low, high = point.kl_divergence_ci95
    x = frame.x(point.size_bytes)
    top, bottom = frame.y(high), frame.y(low)
    return f'<path class="whisker" d="M{x - 3} {top}h6M{x} {top}V{bottom}M{x - 3} {bottom}h6"/>'


def _uniform_mark(frame: _Frame, point: UniformPoint) -> str:
    x, y, label = frame.x(point.size_bytes), frame.y(point.kl_divergence), escape(uniform_label(point.level))
    anchor, shift = ("end", -9) if x > frame.width - _RIGHT - 48 else ("start", 9)
    return (
        f'<g class="uniform"><title>uniform {escape(point.level)}: {format_bytes(point.size_bytes)}, '
        f"KL {format_kl(point.kl_divergence)}</title>{_whisker(frame, point)}"
        f'<rect x="{x - 4.5}" y="{y - 4.5}" width="9" height="9" rx="1.5"/>'
        f'<text x="{x + shift}" y="{y - 6}" text-anchor="{anchor}">{label}</text></g>'
    )


def _reach(frame: _Frame, front: Sequence[FrontPoint], point: FrontPoint, radius: float) -> float:
    """Return how near the mouse must be to hit a point: never nearer to another one."""
    x, y = frame.x(point.size_bytes), frame.y(point.kl_divergence)
    others = (hypot(frame.x(p.size_bytes) - x, frame.y(p.kl_divergence) - y) for p in front if p is not point)
    return round(min(_WIDEST_REACH, max(radius, min(others, default=2 * _WIDEST_REACH) / 2)), 1)


def _front_mark(frame: _Frame, point: FrontPoint, radius: float, reach: float) -> str:
    x, y, name = frame.x(point.size_bytes), frame.y(point.kl_divergence), escape(point.point)
    low, high = point.kl_divergence_ci95
    interval = f"[{format_kl(low)}, {format_kl(high)}]"
    told = f"{format_bytes(point.size_bytes)}, KL {format_kl(point.kl_divergence)} {interval}"
    kind, note = ("point best", " (recommended)") if point.recommended else ("point", "")
    size = radius + point.recommended * (0.5 if radius == _SMALL else 2)
    tag = f'<text x="{x - 11}" y="{y + 15}" text-anchor="end">{name}</text>' if point.recommended else ""
    return (
        f'<g class="{kind}" data-point="{name}" tabindex="0" role="button" aria-label="{name}{note}: {told}">'
        f"<title>{name}{note}: {told}</title>{_whisker(frame, point)}"
        f'<circle class="hit" cx="{x}" cy="{y}" r="{reach:g}"/><circle class="ring" cx="{x}" cy="{y}" r="10"/>'
        f'<circle class="dot" cx="{x}" cy="{y}" r="{size:g}"/>{tag}</g>'
    )
