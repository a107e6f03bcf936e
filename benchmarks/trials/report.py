"""The table of what trials cost, in `docs/benchmarks.md`, from the results that were measured.

python -m benchmarks.trials.report
"""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.search.tables import between_markers, table

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "trials"
PAGE = ROOT / "docs" / "benchmarks.md"
Row = tuple[str, str, str]


def trial_rows(found: Mapping[str, Any]) -> list[Row]:
    """Return the rows about single trials and sweeps."""
    rows: list[Row] = []
    if trial := found.get("trial"):
        shares = ", ".join(f"{name} {100 * trial['shares'][name]:.1f} %" for name in ("swap", "loss"))
        ratio = f"{trial['ratio_to_bare_forward']:.3f}x ({shares})"
        rows.append(("a trial that changes 3 modules, the first block's too, against the bare forward", ratio, "1.05x"))
    if sweep := found.get("sweep"):
        what = f"all {sweep['probes']} (module, level) probes, sketches included, against as many bare forwards"
        rows.append((what, f"{sweep['ratio_to_bare_forwards']:.2f}x", "0.70x"))
    if search := found.get("search"):
        what = f"mean of the {search['evaluations']} trials of a default search, each against all tokens it asks for"
        rows.append((what, f"{search['mean_ratio']:.2f}x", "0.60x"))
        for kind, part in search["kinds"].items():
            share = f"{part['mean_ratio']:.2f}x ({100 * part['share_of_cost']:.0f} % of the cost)"
            rows.append((f"of these, {part['evaluations']} {kind}", share, ""))
        what = f"mean of its {search['plans']} plans, each with all its trials, against what it takes to its end"
        rows.append((what, f"{search['mean_ratio_of_plans']:.3f}x", "0.60x"))
    return rows


def worker_rows(found: Mapping[str, Any]) -> list[Row]:
    """Return the rows about workers and memory."""
    rows: list[Row] = []
    if scaling := found.get("scaling"):
        most = max(run["workers"] for run in scaling)
        seconds = {n: median(run["seconds"] for run in scaling if run["workers"] == n) for n in (1, most)}
        idle = [1 - run["busy_share"] for run in scaling if run["workers"] == 1]
        what = f"{most} Ray workers against one, the same search behind its first batch, median of {len(idle)} turns"
        rows.append((what, f"{seconds[1] / seconds[most]:.2f}x as fast", "1.8x"))
        rows.append(("share of one worker's time that is not a trial", f"{100 * median(idle):.1f} %", "2 %"))
    if levels := found.get("levels"):
        what = f"bytes of the files of {levels['levels']} levels against their packed bytes"
        rows.append((what, f"{levels['ratio']:.4f}x", "1.05x"))
    if memory := found.get("memory"):
        private = max(memory["private_after_all_levels"], memory["private_after_all_levels_twice"]) / 2**20
        weights = memory["float32_weights_bytes"] / 2**20
        limit = memory["buffer_limit_bytes"] / 2**20
        what = f"private memory of a worker after all levels: weights {weights:.0f} MiB, buffer at most {limit:.0f} MiB"
        rows.append((what, f"{private:.0f} MiB", ""))
    return rows


def large_rows(found: Mapping[str, Any]) -> list[Row]:
    """Return the rows about the model that is larger than its worker's memory."""
    limit = f"{found['limit_bytes'] / 1e9:.1f} GB"
    return [
        (
            f"1.1 B model in {limit}: {name}",
            "made by an earlier run"
            if step.get("found")
            else f"{step['seconds']:g} s, peak {step['peak_private_bytes'] / 1e9:.2f} GB",
            limit,
        )
        for name, step in found["steps"].items()
    ]


def main() -> None:
    """Write the table of what there is."""
    rows: list[Row] = []
    if (path := RESULTS / "trials.json").exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        rows += trial_rows(found) + worker_rows(found)
    if (path := RESULTS / "large.json").exists():
        rows += large_rows(json.loads(path.read_text(encoding="utf-8")))
    rows.append(("on a GPU", "not measured", ""))
    text = PAGE.read_text(encoding="utf-8")
    page = between_markers(text, table(("what", "measured", "at most / at least"), rows), "trials")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
