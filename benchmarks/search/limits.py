"""What a limit on trials costs: the plan that a job recommends at one budget, by how many trials it may take.

    python -m benchmarks.search.limits [--folder ARENA] [--state DIR] [--models bundled,FOLDER] [--seeds 0,1,2]

For every model and seed one job with the default menu for each limit and one without any, all on the same levels and
text, judged on the arena's test text, which no job sees. The jobs of a seed share their store, fewest trials first:
what one has measured costs the next nothing, and changes none of its plans. What the state folder holds is not run
again.
"""

import argparse
import json
from dataclasses import dataclass
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import NormalDist, fmean, variance
from typing import Any

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena, default_folder
from benchmarks.search.peers.tightfit import PaidExecutor, Quiet, divided_tokens
from benchmarks.search.tables import between_markers, table
from search.controller import Controller
from space.budget import parse_budget
from space.menu import Menu
from space.plan import Plan
from space.spec import make_spec
from storage.in_memory import MemoryStore
from workers.pool.executor import Executor, InlineExecutor
from workers.text.text_sources import STDLIB
from workers.whole_files import write_text

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "search" / "limits.json"
LIMITS = (20, 40, 80, 160, None)
BUDGET = "3bpw"
WORST = {20: (1.30, 1.5), 40: (1.15, 1.5), 80: (1.08, 1.5), 160: (1.08, 1.5)}
"""limit -> KL over that without a limit, at most: in the mean, and in any run"""
_CONFIDENCE = 0.95


@dataclass
class Runs:
    """The jobs of one model and seed."""

    arena: Arena
    seed: int

    def __post_init__(self) -> None:
        """Begin with an empty store."""
        self.store = MemoryStore()
        self.tokens = divided_tokens(self.arena, num_search=32)
        self.budget = parse_budget(BUDGET).size_bytes(self.arena.inventory)

    def run(self, limit: int | None) -> dict[str, Any]:
        """Return what a job with a limit recommends."""

        def make_executor(*_: Any) -> Executor:
            return PaidExecutor(self.arena, self.tokens, InlineExecutor(self.arena.workspace))

        spec = make_spec(
            model=self.arena.model,
            budget=BUDGET,
            calibration=STDLIB,
            workers=1,
            seed=self.seed,
            sequence_length=SEQUENCE_LENGTH,
            max_trials=limit,
        )
        name = f"limit-{limit}"
        self.store.create_job(name, spec)
        Controller(self.store, make_executor, self.arena.folder, Quiet()).run(name)
        document, trials = self.store.get_job(name).document, self.store.list_trials(name)
        assert document is not None and document.recommended is not None  # noqa: S101, PT018 (a job that is DONE)
        plan = trials[document.recommended.trial].plan
        return {
            "limit": limit,
            "trials": document.cost.trials,
            "front_points": len(document.front),
            "size_bytes": document.recommended.size_bytes,
            "budget_share": document.recommended.size_bytes / self.budget,
            **self._judged(plan),
        }

    def uniform(self) -> dict[str, Any]:
        """Return the largest uniform plan within the budget."""
        sized = [(self.arena.space.weight_bytes(plan), plan) for _, plan in self.arena.space.uniform_plans()]
        size, plan = max((pair for pair in sized if pair[0] <= self.budget), key=lambda pair: pair[0])
        return {"size_bytes": size, **self._judged(plan)}

    def _judged(self, plan: Plan) -> dict[str, Any]:
        kl = self.arena.judge(plan).sequence_kl
        return {"kl_divergence": fmean(kl), "sequence_kl": [float(f"{value:.5g}") for value in kl]}


def one_seed(options: argparse.Namespace, model: str, seed: int) -> dict[str, Any]:
    """Return the rows of one model and seed, run now or read from the state folder."""
    path = options.state / f"{Path(model).name}-{seed}.json"
    if not path.exists():
        runs = Runs(Arena(options.folder, seed, Menu(), model), seed)
        rows = [runs.run(limit) for limit in LIMITS]
        found = {"model": Path(model).name, "seed": seed, "budget": BUDGET, "uniform": runs.uniform(), "jobs": rows}
        write_text(path, json.dumps(found))
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def is_above(ours: list[float], theirs: list[float], comparisons: int) -> bool:
    """Tell whether a KL is measurably above another, paired over sequences, at 95 % for all comparisons together."""
    difference = [a - b for a, b in zip(ours, theirs, strict=True)]
    quantile = NormalDist().inv_cdf(1 - (1 - _CONFIDENCE) / comparisons)
    return fmean(difference) > quantile * sqrt(variance(difference) / len(difference))


def summary(units: list[dict[str, Any]]) -> dict[str, Any]:
    """Return ratios to no limit, by limit, and how often a promise was broken."""
    ratios: dict[int, list[float]] = {limit: [] for limit in LIMITS if limit}
    pairs = [(unit, a, b) for unit in units for a, b in combinations(unit["jobs"], 2)]
    beside = [(unit, job) for unit in units for job in unit["jobs"]]
    for unit in units:
        whole = unit["jobs"][-1]["kl_divergence"]
        for job in unit["jobs"][:-1]:
            ratios[job["limit"]].append(job["kl_divergence"] / whole)
    return {
        "limits": {
            limit: {"mean": fmean(found), "worst": max(found), "allowed": WORST[limit]}
            for limit, found in ratios.items()
            if found
        },
        "more_trials_measurably_worse": sum(
            is_above(b["sequence_kl"], a["sequence_kl"], len(pairs)) for _, a, b in pairs
        ),
        "measurably_above_uniform": sum(
            is_above(job["sequence_kl"], unit["uniform"]["sequence_kl"], len(beside)) for unit, job in beside
        ),
        "least_budget_share": min(job["budget_share"] for _, job in beside),
        "comparisons": len(pairs),
    }


def markdown(found: dict[str, Any], units: list[dict[str, Any]]) -> str:
    """Return the table of the document: KL over that without a limit, and what was compared."""
    heads = ["trials", *(f"{u['model']}, seed {u['seed']}" for u in units), "mean", "at most"]
    rows = []
    for index, limit in enumerate(LIMITS[:-1]):
        jobs = [(u["jobs"][index]["kl_divergence"], u["jobs"][-1]["kl_divergence"]) for u in units]
        row = found["limits"][limit]
        rows.append(
            [str(limit), *(f"{kl / whole:.3f}" for kl, whole in jobs), f"{row['mean']:.3f}", f"{WORST[limit][0]:.2f}"]
        )
    whole = [u["jobs"][-1] for u in units]
    rows.append(["no limit: KL", *(f"{job['kl_divergence']:.4f}" for job in whole), "", ""])
    rows.append(["no limit: trials", *(str(job["trials"]) for job in whole), "", ""])
    rows.append(["uniform: KL", *(f"{u['uniform']['kl_divergence']:.4f}" for u in units), "", ""])
    broken, above = found["more_trials_measurably_worse"], found["measurably_above_uniform"]
    return "\n".join(
        [
            f"KL at {BUDGET} over that of the same job without a limit, on 65,536 tokens that no job sees",
            "(`python -m benchmarks.search.limits`; raw: `benchmarks/results/search/limits.json`):",
            "",
            table(heads, rows),
            "",
            f"Of {found['comparisons']} pairs of limits {broken} are measurably worse with more trials than with",
            f"fewer, and of {len(units) * len(LIMITS)} jobs {above} are measurably above the uniform plan that fits",
            "(95 % for all comparisons together, paired over sequences). The recommended plans use at least",
            f"{found['least_budget_share']:.2%} of the budget's bytes.",
        ]
    )


def main() -> None:
    """Run what is missing, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--state", type=Path, default=default_folder() / "limits")
    parser.add_argument("--models", default="bundled")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--document", type=Path, help="whose table is written, such as docs/search.md")
    options = parser.parse_args()
    units = []
    for seed in map(int, options.seeds.split(",")):
        for model in options.models.split(","):
            units.append(one_seed(options, model, seed))
            for job in units[-1]["jobs"]:
                print(model, seed, {k: v for k, v in job.items() if k != "sequence_kl"}, flush=True)
    found = summary(units)
    print(json.dumps(found, indent=1))
    write_text(options.out, json.dumps({"summary": found, "units": units}) + "\n")
    if options.document is not None:
        text = options.document.read_text(encoding="utf-8")
        write_text(options.document, between_markers(text, markdown(found, units), "limits"))


if __name__ == "__main__":
    main()
