"""The leagues' plots; the files are the same whenever the results are."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot as plt

from benchmarks.search.axes_report import BITS_ONLY, ratios
from benchmarks.search.ranking import OURS, best_peers, ranked
from benchmarks.search.tables import mean_kl
from space.results.front import front_hypervolume

mpl.rcParams.update({"svg.hashsalt": "tightfit", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3})
_MARKERS = "osv^D<>pXP*h"
Row = Mapping[str, Any]


def _style(index: int, name: str) -> dict[str, Any]:
    ours = name == OURS
    return {
        "color": "black" if ours else f"C{index % 10}",
        "marker": _MARKERS[index % len(_MARKERS)],
        "linewidth": 2.4 if ours else 1.1,
        "linestyle": "-" if index < len(_MARKERS) else "--",
        "markersize": 5,
        "zorder": 3 if ours else 2,
    }


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)


def plot_ratios(document: Row, path: Path) -> None:
    """Draw test KL against the uniform floor's over the budgets."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    uniform = document["methods"]["uniform"]
    for index, name in enumerate(ranked(document, best_peers(document))):
        points = [
            (float(bits), kl / base)
            for bits in document["budgets"]
            if (kl := mean_kl(document["methods"][name], bits)) is not None and (base := mean_kl(uniform, bits))
        ]
        axes.plot(*zip(*points, strict=True), label=name, **_style(index, name))
    axes.set(xlabel="size of ... bits", ylabel="KL / KL of the largest uniform plan that fits", yscale="log")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def plot_anytime(document: Row, path: Path) -> None:
    """Draw hypervolume against token-forwards: lines from the searches' own text, last markers from the test text."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for index, name in enumerate(ranked(document, best_peers(document))):
        method, style = document["methods"][name], _style(index, name)
        if len(method["kl"]) < len(document["budgets"]):
            continue
        line = style | {"marker": None}
        for seed, curve in enumerate(method["anytime"].values()):
            if curve:
                axes.step(*zip(*curve, strict=True), where="post", **(line | {"alpha": 1.0 if seed == 0 else 0.3}))
        spent = max(sum(method["token_forwards"]) / len(method["token_forwards"]), 1e4)
        axes.plot([spent], [final_hypervolume(document, name)], label=name, **style)
    axes.set(xlabel="token-forwards, all six budgets", ylabel="hypervolume in (bytes, log KL)", xscale="log")
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    _save(figure, path)


def final_hypervolume(document: Row, name: str) -> float:
    """Return the hypervolume of a method's plans on test text, each at its budget's bytes."""
    box, method = document["box"], document["methods"][name]
    points = [(size, kl) for bits, size in document["budgets"].items() if (kl := mean_kl(method, bits)) is not None]
    return front_hypervolume(points, (box["reference_bytes"], box["reference_kl"]), box["smallest_bytes"])


def plot_axes(document: Row, path: Path) -> None:
    """Draw each menu's test KL against that of bits only over the budgets."""
    figure, axes = plt.subplots(figsize=(8, 4.5))
    for index, name in enumerate(name for name in document["menus"] if name != BITS_ONLY):
        points = [(float(bits), ratio) for bits, ratio in ratios(document, name).items()]
        axes.plot(*zip(*points, strict=True), label=name, **_style(index, name))
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.set(xlabel="size of ... bits", ylabel="KL / KL of bits only at the same bytes")
    axes.legend(fontsize=7)
    _save(figure, path)


PLOTS: Mapping[str, Mapping[str, Callable[[Row, Path], None]]] = {
    "allocation": {"allocation-kl": plot_ratios, "allocation-anytime": plot_anytime},
    "axes": {"axes-kl": plot_axes},
}
