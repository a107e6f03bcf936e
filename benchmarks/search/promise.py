"""Never worse than uniform: fronts of default jobs against uniform plans, on text that no part of a job has seen.

    python -m benchmarks.search.promise [--folder ARENA] [--state DIR] [--seeds 0,1,2,3,4] [--out FILE]

For every seed one job at 3.25 bits per weight with the default menu; for every uniform plan the front's best point of
at most its bytes, as the job recorded it. Both are measured on the arena's test text; the point breaks the promise
where the paired 95 % interval of the difference lies above zero. A seed that the state folder holds is not run again.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena, default_folder
from benchmarks.search.peers.tightfit import PaidExecutor, Quiet, divided_tokens
from search.controller import Controller
from space.menu import Menu
from space.plan import Plan
from space.results.document import FrontDocument
from space.results.front import paired_interval
from space.spec import make_spec
from storage.in_memory import MemoryStore
from workers.pool.executor import Executor, InlineExecutor
from workers.text.text_sources import STDLIB
from workers.whole_files import write_text

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "search" / "promise.json"


def run_job(arena: Arena, seed: int) -> tuple[FrontDocument, dict[int, Plan]]:
    """Return the front of one default job, and trial number -> plan."""
    store, tokens = MemoryStore(), divided_tokens(arena, num_search=32)

    def make_executor(*_: Any) -> Executor:
        return PaidExecutor(arena, tokens, InlineExecutor(arena.workspace))

    spec = make_spec(
        model="bundled", budget="3.25bpw", calibration=STDLIB, workers=1, seed=seed, sequence_length=SEQUENCE_LENGTH
    )
    job = store.create_job(f"seed-{seed}", spec)
    Controller(store, make_executor, arena.folder, Quiet()).run(job.job_id)
    document = store.get_job(job.job_id).document
    assert document is not None  # noqa: S101 (a job that is DONE has one)
    return document, {t.number: t.plan for t in store.list_trials(job.job_id)}


def compare(arena: Arena, document: FrontDocument, plans: dict[int, Plan]) -> list[dict[str, Any]]:
    """Return one row per uniform plan."""
    rows = []
    for level, uniform in arena.space.uniform_plans():
        size = arena.space.weight_bytes(uniform)
        point = min((p for p in document.front if p.size_bytes <= size), key=lambda p: p.kl_divergence, default=None)
        if point is None:
            continue
        ours, theirs = arena.judge(plans[point.trial]).sequence_kl, arena.judge(uniform).sequence_kl
        low, high = paired_interval(ours, theirs)
        rows.append(
            {
                "level": str(level),
                "uniform_kl": sum(theirs) / len(theirs),
                "front_kl": sum(ours) / len(ours),
                "difference_ci95": [low, high],
                "is_measurably_worse": low > 0,
            }
        )
    return rows


def seed_result(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Return one seed's rows, run now or read from the state folder."""
    path = options.state / f"seed-{seed}.json"
    if not path.exists():
        arena = Arena(options.folder, seed, Menu())
        rows = compare(arena, *run_job(arena, seed))
        write_text(path, json.dumps({"seed": seed, "token_forwards": arena.token_forwards, "rows": rows}))
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


def main() -> None:
    """Run what is missing, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--state", type=Path, default=default_folder() / "promise")
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    result = []
    for seed in map(int, options.seeds.split(",")):
        result.append(seed_result(options, seed))
        print(json.dumps(result[-1]), flush=True)
    is_worse = [bool(row["is_measurably_worse"]) for entry in result for row in entry["rows"]]
    print(f"{sum(is_worse)} of {len(is_worse)} are measurably worse than uniform")
    document = {"broken": sum(is_worse), "compared": len(is_worse), "seeds": result}
    write_text(options.out, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
