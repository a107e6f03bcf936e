"""How a search went, for its report: all that was measured, and hypervolume and best KL as trials ended."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import floor, isfinite, log10

from storage.records import Trial
from tightfit.report.chart import format_kl

Step = tuple[int, Mapping[str, float]]
"""Trials done, and the metrics then."""
MAX_DOTS = 2000
"""Plans drawn as dots, spread over the search: what keeps a report small however long the search was."""
_WIDTH, _HEIGHT = 460, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 26, 34
_CHARTS = (("best_kl_under_budget", "Best KL divergence within the budget"), ("hypervolume", "Hypervolume"))


def measured_points(trials: Sequence[Trial]) -> list[tuple[float, float]]:
    """Return (bytes, KL on the text of the search) of the trials that were measured, at most MAX_DOTS of them."""
    found = [(float(t.size_bytes), t.measurement.kl_divergence) for t in trials if t.measurement]
    share = min(1.0, MAX_DOTS / max(1, len(found)))
    return [point for n, point in enumerate(found) if floor((n + 1) * share) > floor(n * share)]


def told_of_dots(trials: Sequence[Trial]) -> str:
    """Return what the pale dots are, as the end of a sentence; nothing where there are none."""
    count = sum(t.measurement is not None for t in trials)
    shown = f"all {count:,}" if count <= MAX_DOTS else f"{MAX_DOTS:,} of the {count:,}"
    return f"; pale dots are {shown} plans measured on the text of the search" if count else ""


def history_section(steps: Sequence[Step]) -> str:
    """Return the section of the page that tells how the search went; nothing where there was no search to tell of."""
    charts = [_chart(title, _series(steps, name)) for name, title in _CHARTS]
    if not any(charts):
        return ""
    return (
        '<section aria-labelledby="history-title"><h2 id="history-title">How the search went</h2>'
        '<p class="lead">Against the number of trials, as measured on the text of the search.</p>'
        f'<div class="history">{"".join(charts)}</div></section>'
    )


def _series(steps: Sequence[Step], name: str) -> list[tuple[int, float]]:
    """Return (trials done, value) where the value changes, and at the last step."""
    known = [(done, metrics[name]) for done, metrics in steps if isfinite(metrics.get(name, float("nan")))]
    changes = known[:1] + [pair for before, pair in pairwise(known) if pair[1] != before[1]]
    return changes + [pair for pair in known[-1:] if pair != changes[-1]]


def _chart(title: str, series: Sequence[tuple[int, float]]) -> str:
    if len(series) < 2:  # noqa: PLR2004 (a line has two ends)
        return ""
    values = [value for _, value in series]
    low, high, last = min(values), max(values), max(done for done, _ in series)
    is_log = low > 0 and high / low > 5  # noqa: PLR2004 (a straight scale would hide the end)
    scale = log10 if is_log else float

    def x(done: int) -> float:
        return round(_LEFT + done / last * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        share = (scale(value) - scale(low)) / ((scale(high) - scale(low)) or 1.0)
        return round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 1)

    path = f"M{x(series[0][0])} {y(series[0][1])}" + "".join(f"H{x(done)}V{y(value)}" for done, value in series[1:])
    base = _HEIGHT - _BOTTOM
    ticks = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(v)}" y2="{y(v)}"/>'
        f'<text class="tick" x="{_LEFT - 8}" y="{y(v) + 4}" text-anchor="end">{format_kl(v)}</text>'
        for v in dict.fromkeys((low, high))
    )
    label = f"{title}: {format_kl(values[0])} at first, {format_kl(values[-1])} after {last:,} trials"
    return (
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f'<text class="axis" x="8" y="13">{title}{" (log)" if is_log else ""}</text>{ticks}'
        f'<path class="step" d="{path}"/>'
        f'<text class="tick" x="{_LEFT}" y="{base + 19}">0</text>'
        f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{base + 19}" text-anchor="end">{last:,} trials</text></svg>'
    )
