"""Honest intervals: how often the 95 % interval from a draw of held-out text covers the KL of all of it.

    python -m benchmarks.search.coverage [--folder ARENA] [--draws 200] [--out FILE]

Plans from 2 to 6 bits are measured once on the arena's test text. Each draw takes as many sequences as a job judges on,
without replacement, makes the interval that `tightfit front` shows, and looks whether it covers the mean of all. The
same for the paired interval of the difference between neighbours in size.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.search.arena import NUM_TEST, Arena, default_folder
from space.results.front import bootstrap_interval, paired_interval

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "search" / "coverage.json"
NUM_JUDGED = 64


def share_covered(values: np.ndarray, num_draws: int, seed: int) -> float:
    """Return the share of draws whose interval covers the mean of all (N,) values."""
    rng = np.random.default_rng(seed)
    hits = 0
    for _ in range(num_draws):
        low, high = bootstrap_interval(rng.choice(values, NUM_JUDGED, replace=False).tolist())
        hits += low <= values.mean() <= high
    return hits / num_draws


def share_covered_paired(ours: np.ndarray, theirs: np.ndarray, num_draws: int, seed: int) -> float:
    """Return the same share for the interval of mean(ours - theirs)."""
    rng = np.random.default_rng(seed)
    true = (ours - theirs).mean()
    hits = 0
    for _ in range(num_draws):
        drawn = rng.choice(len(ours), NUM_JUDGED, replace=False)
        low, high = paired_interval(ours[drawn].tolist(), theirs[drawn].tolist())
        hits += low <= true <= high
    return hits / num_draws


def main() -> None:
    """Measure, draw, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    arena = Arena(options.folder)
    measured = {str(v): np.array(arena.judge(plan).sequence_kl) for v, plan in arena.space.uniform_plans()}
    rows, before = [], None
    for level, values in measured.items():
        row = {
            "plan": level,
            "kl_divergence": float(values.mean()),
            "covered": float(share_covered(values, options.draws, 0)),
        }
        if before is not None:
            row["difference_covered"] = share_covered_paired(before, values, options.draws, 1)
        rows.append(row)
        before = values
        print(row, flush=True)
    result = {"draws": options.draws, "sequences_drawn": NUM_JUDGED, "sequences": NUM_TEST, "plans": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
