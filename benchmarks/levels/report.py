"""The plot and the tables of docs/levels.md; they are the same whenever the result is.

python -m benchmarks.levels.report [--result FILE]
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from benchmarks.levels.refit import RESULT as REFIT
from benchmarks.levels.run import BITS, RESULT, ROOT
from benchmarks.packed.__main__ import RESULT as PACKED

mpl.rcParams.update({"svg.hashsalt": "tightfit", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
_OURS = "trellis, rotated"
_HIDDEN = ("integer g128", "integer g64, half zeros", "trellis, rotated, half zeros", "integer, 2:4")
_MARKERS = "osv^D<>pXP*h"


def plot_levels(document: Mapping[str, Any], path: Path) -> None:
    """Draw one panel per model; kinds far above all others are left to the table."""
    figure, panels = plt.subplots(1, len(document), figsize=(5 * len(document) + 1, 4.2), sharey=True, squeeze=False)
    for axes, (name, found) in zip(panels[0], document.items(), strict=True):
        kinds = dict.fromkeys(row["kind"] for row in found["levels"] if row["kind"] not in _HIDDEN)
        for index, kind in enumerate(kinds):
            points = [(r["stored_bits"], r["error"]) for r in found["levels"] if r["kind"] == kind]
            style: dict[str, Any] = {"color": "black", "linewidth": 2.4} if kind == _OURS else {"linewidth": 1.0}
            axes.plot(*zip(*points, strict=True), label=kind, marker=_MARKERS[index % 12], markersize=4, **style)
        axes.set(title=name, xlabel="stored bits per weight", yscale="log")
    panels[0][0].set_ylabel("relative output error, calibration text")
    panels[0][-1].legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def table(document: Mapping[str, Any]) -> str:
    """Return the ratios as a Markdown table: one row per kind, per model one column for each bit-width."""
    heads = [f"{model} {bits}" for model in document for bits in BITS]
    lines = ["| kind | " + " | ".join(heads) + " | stored bits |", "|---" * (len(heads) + 2) + "|"]
    last = list(document.values())[-1]["levels"]
    for kind in dict.fromkeys(row["kind"] for row in last):
        rows = {
            (model, r["bits"]): r for model, found in document.items() for r in found["levels"] if r["kind"] == kind
        }
        ratios = [f"{rows[m, b]['ratio']:.2f}" if (m, b) in rows else "" for m in document for b in BITS]
        stored = ", ".join(f"{r['stored_bits']:.2f}" for r in last if r["kind"] == kind and r["bits"] in BITS)
        lines.append(f"| {kind} | " + " | ".join(ratios) + f" | {stored} |")
    return "\n".join(lines)


def packed_table(document: Mapping[str, Any]) -> str:
    """Return the speed of `packed` exports over the dense model's: one row per kind of level."""
    lines = ["| every module at | bytes | prefill, 256 tokens | one token at a time |", "|---" * 4 + "|"]
    for row in document["rows"]:
        prefill, decode = (f"{row[what]:,.0f} tokens, {row[f'{what}_ratio']:.2f}" for what in ("prefill", "decode"))
        lines.append(f"| {row['kind']} (`{row['level']}`) | {row['size_share']:.2f} | {prefill} | {decode} |")
    return "\n".join(lines)


def refit_table(document: Mapping[str, Any]) -> str:
    """Return each refitted plan's KL on the text that judges: one row per plan, the worst ratio below."""
    lines = ["| budget | plan | KL before | KL after | kept | ratio as exported |", "|---" * 6 + "|"]
    rows = sorted(document["plans"], key=lambda row: (row["budget"], row["kind"]))
    for row in rows:
        before, after = row["judged"]
        kept = "yes" if row["kept"] else "no"
        cells = (f"{before:.5f}", f"{after:.5f}", kept, f"{row['exported_ratio']:.2f}")
        lines.append(f"| {row['budget']} | {row['kind']} | " + " | ".join(cells) + " |")
    worst = document["worst_exported_ratio"]
    return "\n".join([*lines, "", f"The worst of these {len(rows)} plans keeps {worst:.2f} of its KL."])


def main() -> None:
    """Draw the plot and put the tables into the page; a result that is not there leaves its table as it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--result", type=Path, default=RESULT)
    options = parser.parse_args()
    page = ROOT / "docs" / "levels.md"
    text = page.read_text(encoding="utf-8")
    makers = {"levels": table, "packed": packed_table, "refit": refit_table}
    for (name, make), path in zip(makers.items(), (options.result, PACKED, REFIT), strict=True):
        if path.exists():
            text = _with_part(text, name, make(json.loads(path.read_text(encoding="utf-8"))))
    plot_levels(json.loads(options.result.read_text(encoding="utf-8")), ROOT / "docs" / "levels.svg")
    page.write_text(text, encoding="utf-8")


def _with_part(page: str, name: str, part: str) -> str:
    """Return the page with what stands between two marks replaced."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, rest = page.split(begin)
    return f"{before}{begin}\n\n{part}\n\n{end}{rest.split(end)[1]}"


if __name__ == "__main__":
    main()
