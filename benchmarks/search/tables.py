"""What the documents and reports of all leagues are made of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
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


def write_document(path: Path, document: Row, rows: str) -> None:
    """Write a league's document with one line for each entry of `rows`, its last key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(m, separators=(',', ':'))}" for n, m in document[rows].items())
    head = json.dumps({k: v for k, v in document.items() if k != rows}, indent=1)
    path.write_text(f'{head[:-2]},\n "{rows}": {{\n{lines}\n }}\n}}\n', encoding="utf-8")
