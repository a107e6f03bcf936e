"""A front for Python and notebooks: as rows, as a data frame, as a plot and as a page."""

import csv
import io
from dataclasses import dataclass, fields
from html import escape
from typing import TYPE_CHECKING, Any

from space.errors import UsageError
from space.results.document import Comparison, FrontDocument, FrontPoint

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_BOLD = ' style="font-weight:bold"'
_STYLE = (
    "<style>.tightfit .grid,.tightfit .base{stroke:#ddd}.tightfit .front-line{fill:none;stroke:#2159c9;opacity:.4}"
    ".tightfit .point{color:#2159c9}.tightfit .best{color:#d9480f}.tightfit .dot{fill:currentColor}"
    ".tightfit .hit,.tightfit .ring{fill:transparent;stroke:none}.tightfit .whisker{stroke:currentColor;opacity:.5}"
    ".tightfit .uniform rect{fill:#868c95}.tightfit .budget{stroke:#d9480f;stroke-dasharray:5 4}"
    ".tightfit text{font:12px sans-serif;fill:#5c626b}</style>"
)


@dataclass(frozen=True, slots=True)
class Front(FrontDocument):
    """A job's front: the document, and its points in the forms that Python programs and notebooks want."""

    @staticmethod
    def of(document: FrontDocument, state: str) -> "Front":
        """Return a document's front, of a job in a state."""
        values = {field.name: getattr(document, field.name) for field in fields(document)}
        return Front(**{**values, "state": state})

    def to_frame(self) -> "pd.DataFrame":
        """Return the points as a data frame, a row each, by rising bytes, named by point.

        Raises:
            UsageError: pandas is not installed.

        """
        try:
            import pandas as pd  # slow, and not everywhere
        except ImportError as error:
            raise UsageError("A front as a data frame needs pandas: `pip install pandas`.") from error
        return pd.DataFrame(front_rows(self)).set_index("point")

    def to_pandas(self) -> "pd.DataFrame":
        """Do as `to_frame`, under the name that other libraries use."""
        return self.to_frame()

    def plot(self, axes: "Axes | None" = None) -> "Axes":
        """Draw size against KL divergence with intervals, beside the uniform plans; return the axes.

        Raises:
            UsageError: matplotlib is not installed.

        """
        try:
            from matplotlib import pyplot as plt  # slow, and not everywhere
        except ImportError as error:
            raise UsageError("A front as a plot needs matplotlib: `pip install matplotlib`.") from error
        axes = axes if axes is not None else plt.subplots()[1]
        _draw(axes, "front", self.front)
        _draw(axes, "uniform", self.uniform)
        axes.axvline(self.budget_bytes / 1e6, linestyle="--", color="gray", label="budget")
        axes.set(xlabel="size in MB", ylabel="KL divergence to dense", yscale="log", title=self.model)
        axes.legend()
        return axes

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the chart and the points."""
        from tightfit.report.chart import front_chart

        names = ("point", "size_bytes", "bits_per_weight", "kl_divergence", "kl_low", "kl_high", "perplexity")
        rows = front_rows(self)
        head = "".join(f"<th>{name}</th>" for name in names)
        cells = [(row["recommended"], "".join(f"<td>{_cell(row[name])}</td>" for name in names)) for row in rows]
        body = "".join(f"<tr{_BOLD if recommended else ''}>{told}</tr>" for recommended, told in cells)
        title = f"{escape(self.model)} in {self.budget_bytes:,} bytes, on {self.measured_on.replace('_', '-')} text"
        chart = front_chart(self, 640, 320)
        return f'<div class="tightfit">{_STYLE}<p>{title}</p>{chart}<table><tr>{head}</tr>{body}</table></div>'


def _draw(axes: "Axes", label: str, points: Any) -> None:
    """Draw points of the front or of uniform plans with their intervals; a KL of zero has no place on a log axis."""
    shown = [p for p in points if p.kl_divergence > 0]
    below = [p.kl_divergence - max(p.kl_divergence_ci95[0], p.kl_divergence / 1e3) for p in shown]
    above = [p.kl_divergence_ci95[1] - p.kl_divergence for p in shown]
    sizes, losses = [p.size_bytes / 1e6 for p in shown], [p.kl_divergence for p in shown]
    style = {"front": "o-", "uniform": "s"}[label]
    axes.errorbar(sizes, losses, [[max(0.0, b) for b in below], [max(0.0, a) for a in above]], fmt=style, label=label)


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}" if isinstance(value, float) else str(value)


def front_rows(document: FrontDocument) -> list[dict[str, Any]]:
    """Return the points of a front as flat rows, by rising bytes."""
    return [_row(point) for point in document.front]


def _row(point: FrontPoint) -> dict[str, Any]:
    low, high = point.kl_divergence_ci95
    return {
        "point": point.point,
        "trial": point.trial,
        "size_bytes": point.size_bytes,
        "bits_per_weight": point.bits_per_weight,
        "kl_divergence": point.kl_divergence,
        "kl_low": low,
        "kl_high": high,
        "perplexity": point.perplexity,
        "recommended": point.recommended,
        **_comparison("next", point.versus_next),
        **_comparison("uniform", point.versus_uniform),
        "own_agreement": None if point.own is None else point.own.agreement,
        "own_accuracy": None if point.own is None else point.own.accuracy,
    }


def _comparison(versus: str, found: Comparison | None) -> dict[str, Any]:
    names = ("other", "ratio", "measurable")
    return {f"{versus}_{name}": None if found is None else getattr(found, name) for name in names}


def front_csv(document: FrontDocument) -> str:
    """Return the front as CSV with a header."""
    out, rows = io.StringIO(), front_rows(document)
    names = list(rows[0]) if rows else ["point"]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
