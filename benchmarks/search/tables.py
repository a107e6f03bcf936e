"""What the reports of all leagues are made of."""

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

WORSE, BETTER = "▲", "▼"
Row = Mapping[str, Any]


def mean_kl(method: Row, bits: str) -> float | None:
    """Return the mean over seeds of a method's test KL at a budget, or None where it has none."""
    values = method.get("kl", {}).get(bits, {})
    return mean(values.values()) if values else None


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(lines)


def between_markers(text: str, inside: str, league: str) -> str:
    """Return the document with new text between a league's markers.

    Raises:
        ValueError: a marker is missing.

    """
    begin, end = f"<!-- {league}: begin -->", f"<!-- {league}: end -->"
    if begin not in text or end not in text:
        raise ValueError(f"the document has no {begin} ... {end}")
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{inside}\n\n{end}{after}"
