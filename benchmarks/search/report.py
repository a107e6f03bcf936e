"""The leagues' parts of `docs/benchmarks.md` and `README.md`: tables between markers, and plots.

python -m benchmarks.search.report [--results FOLDER] [--root DIR] [--no-plots]
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.search.axes_report import axes_markdown
from benchmarks.search.ranking import OURS, average_ratio, best_peers, ranked
from benchmarks.search.tables import BETTER, WORSE, between_markers, mean_kl, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "search"
Row = Mapping[str, Any]


def mark(document: Row, name: str, bits: str) -> str:
    """Return a sign where a method differs measurably from the best peer."""
    against = document["intervals"].get(bits, {}).get("against", {}).get(name, {})
    low, high = against.get("best_peer", (0.0, 0.0))
    return WORSE if low > 0 else BETTER if high < 0 else ""


def kl_table(document: Row, best: Mapping[str, float]) -> str:
    """Return test KL by method and budget, with the ratio to the best peer."""
    rows = []
    for name in ranked(document, best):
        method, cells = document["methods"][name], []
        for bits, least in best.items():
            kl = mean_kl(method, bits)
            cells.append("" if kl is None else f"{kl:.3g} ({kl / least:.2f}{mark(document, name, bits)})")
        ratio = average_ratio(method, best)
        rows.append([name, *cells, "" if ratio is None else f"{ratio:.3f}"])
    return table(["method", *(f"{bits} bits" for bits in best), "mean ratio"], rows)


def cost_table(document: Row, best: Mapping[str, float]) -> str:
    """Return what each method spent on all its budgets together."""
    rows = []
    for name in ranked(document, best):
        method = document["methods"][name]
        spent, seconds = mean(method["token_forwards"]), min(method["seconds"])
        budgets = str(len(method["kl"])) + (", one by one" if method["per_budget"] else "")
        rows.append([name, str(len(method["seeds"])), budgets, f"{spent / 1e6:.2f} M", f"{seconds:.0f}"])
    return table(["method", "seeds", "budgets", "token-forwards", "CPU seconds"], rows)


def versus_table(document: Row, best: Mapping[str, float]) -> str:
    """Return our method against the best peer and uniform, with paired intervals; empty where it was not run."""
    if "kl" not in document["methods"].get(OURS, {}):
        return ""
    rows = []
    for bits in best:
        ours = mean_kl(document["methods"][OURS], bits)
        if ours is None:
            continue
        entry = document["intervals"][bits]
        cells = []
        for other, name in (("best_peer", entry["best_peer"]), ("uniform", "uniform")):
            theirs = mean_kl(document["methods"][name], bits)
            low, high = entry["against"][OURS].get(other, (0.0, 0.0))
            if theirs is not None:
                cells.append(f"{ours / theirs:.3f} [{1 + low / theirs:.3f}, {1 + high / theirs:.3f}]")
        rows.append([bits, entry["best_peer"], *cells])
    return table(["bits", "best peer", "tightfit / best peer [95 %]", "tightfit / uniform [95 %]"], rows)


def digest_table(document: Row) -> str:
    """Return each method's KL over ours and its cost, of the methods that have a plan for every budget."""
    best = best_peers(document)
    ratios = {name: average_ratio(document["methods"][name], best) for name in ranked(document, best)}
    ours, rows = ratios.get(OURS), []
    for name, ratio in ratios.items():
        if ours is None or ratio is None:
            continue
        spent = mean(document["methods"][name]["token_forwards"])
        rows.append([name, f"{ratio / ours:.2f}", f"{spent / 1e6:.1f} M"])
    return table(["method", "KL over tightfit's", "token-forwards"], rows)


def markdown(document: Row) -> str:
    """Return all that stands between the markers."""
    best = best_peers(document)
    machine = document["machine"]
    missing = [f"- {n}: not run ({m['not_run']})" for n, m in document["methods"].items() if "not_run" in m]
    legend = (
        "Held-out KL, mean over seeds, and in brackets its ratio to the best peer at that budget. "
        f"{WORSE} measurably worse, {BETTER} measurably better than the best peer (95 % paired bootstrap over test "
        "sequences, seeds averaged); no sign: not distinguishable."
    )
    where = (
        f"Machine: {machine['cpus']} CPUs ({machine['processor']}), Python {machine['python']}; each run "
        "has one thread. CPU seconds are the least of the seeds, because other work was beside them."
    )
    parts = [
        legend,
        kl_table(document, best),
        versus_table(document, best),
        "![KL over that of uniform plans](allocation-kl.svg)",
        "Cost of one seed, all its budgets together, everything measured counted:",
        cost_table(document, best),
        "![Hypervolume over token-forwards](allocation-anytime.svg)",
        "\n".join(missing),
        where,
    ]
    return "\n\n".join(part for part in parts if part)


def read_results(folder: Path, league: str) -> Row | None:
    """Return a league's document, or None where it was not run yet."""
    path = folder / f"{league}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def main() -> None:
    """Write the tables of the leagues that were run, then their plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of the README and of docs")
    parser.add_argument("--no-plots", action="store_true")
    arguments = parser.parse_args()
    docs = arguments.root / "docs"
    parts = (
        ("allocation", arguments.root / "README.md", digest_table),
        ("allocation", docs / "benchmarks.md", markdown),
        ("axes", docs / "benchmarks.md", axes_markdown),
    )
    for league, page, write in parts:
        if (document := read_results(arguments.results, league)) is not None:
            text = between_markers(page.read_text(encoding="utf-8"), write(document), league)
            page.write_text(text, encoding="utf-8")
    if not arguments.no_plots:
        draw(arguments.results, docs)


def draw(results: Path, docs: Path) -> None:
    """Draw the plots of the leagues that were run."""
    from benchmarks.search.plots import PLOTS  # matplotlib is optional

    for league, plots in PLOTS.items():
        if (document := read_results(results, league)) is not None:
            for name, plot in plots.items():
                plot(document, docs / f"{name}.svg")


if __name__ == "__main__":
    main()
