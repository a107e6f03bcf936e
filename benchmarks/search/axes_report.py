"""The axes league's part of `docs/benchmarks.md`: what each menu's plans lose against those of bits only."""

from collections.abc import Mapping
from math import exp, log
from statistics import mean
from typing import Any

from benchmarks.search.tables import BETTER, WORSE, mean_kl, table

BITS_ONLY = "bits"
Row = Mapping[str, Any]


def ratios(document: Row, name: str) -> dict[str, float]:
    """Return bits -> a menu's test KL over that of bits only."""
    menus = document["menus"]
    kl = {b: (mean_kl(menus[name], b), mean_kl(menus[BITS_ONLY], b)) for b in document["budgets"]}
    return {b: ours / theirs for b, (ours, theirs) in kl.items() if ours is not None and theirs is not None}


def kl_table(document: Row) -> str:
    """Return test KL by menu and budget, with the ratio to bits only, and the geometric mean of the ratios."""
    rows = []
    for name, menu in document["menus"].items():
        cells = []
        found = ratios(document, name) if BITS_ONLY in document["menus"] else {}
        for bits in document["budgets"]:
            kl, ratio = mean_kl(menu, bits), found.get(bits)
            low, high = document["against_bits"].get(name, {}).get(bits, (0.0, 0.0))
            sign = WORSE if low > 0 else BETTER if high < 0 else ""
            told = "" if ratio is None else f" ({ratio:.2f}{sign})"
            cells.append("" if kl is None else f"{kl:.3g}{told}")
        average = f"{exp(mean(map(log, found.values()))):.3f}" if found else ""
        rows.append([name, *cells, average])
    return table(["menu", *(f"{bits} bits" for bits in document["budgets"]), "mean ratio"], rows)


def uses_table(document: Row) -> str:
    """Return the share of the weights on each axis, least to most over the budgets, and what the searches spent."""
    rows = []
    for name, menu in document["menus"].items():
        axes = next(iter(menu["uses"].values()))
        shares = [[menu["uses"][bits][axis] for bits in document["budgets"]] for axis in axes]
        cells = [f"{100 * min(s):.0f} to {100 * max(s):.0f} %" if max(s) else "none" for s in shares]
        spent, seconds = mean(menu["token_forwards"]) / 1e6, min(menu["seconds"])
        rows.append([name, *cells, f"{spent:.2f} M", f"{seconds:.0f}"])
    axes = next(iter(next(iter(document["menus"].values()))["uses"].values()))
    return table(["menu", *(f"weights with {axis}" for axis in axes), "token-forwards", "CPU seconds"], rows)


def axes_markdown(document: Row) -> str:
    """Return all that stands between the markers."""
    seeds = sorted({str(seed) for menu in document["menus"].values() for kl in menu["kl"].values() for seed in kl})
    legend = (
        f"Held-out KL, mean over seeds {', '.join(seeds)}, and in brackets its ratio to bits only at the same bytes. "
        f"{WORSE} measurably worse, {BETTER} measurably better than that (95 % paired bootstrap over test sequences)."
    )
    plot = "![KL of each menu over that of bits only](axes-kl.svg)"
    used = "What the plans use, over the budgets:"
    return "\n\n".join([legend, kl_table(document), plot, used, uses_table(document)])
