"""What recoveries are worth: KL of plans of the bundled model after a refit, and after each recovery from there on.

    python -m benchmarks.levels.recovery [--kinds trellis searched pruned half] [--methods scales ...] [--seeds 0]
                                         [--minutes M] [--folder DIR] [--out FILE]

Plans of 2.25, 2.5 and 3 bits around the allocation that tightfit's own search found (`allocations.json`): as rotated
trellises and as the integers that were searched; and two pruned ones, 2:4 and half zeros, at 4 bits, beside the same
levels without zeros. A recovery is kept or not by 64 sequences of held-out text, and judged by 64 others. Every row
holds its curve: [step, core seconds, training KL, selection KL]. Killed, it goes on when called again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.levels.refit import ALLOCATIONS, make_plan, texts
from benchmarks.levels.run import ROOT
from benchmarks.search.arena import NUM_CALIBRATION, SEQUENCE_LENGTH, Arena, default_folder
from space.cost import module_bytes, plan_bytes
from space.level import parse_level
from space.plan import Plan
from space.results.front import paired_interval
from workers.recover.recovery import Lesson, Recovered, Values, recover_if_better
from workers.recover.recovery_table import RECOVERIES
from workers.recover.training_text import NUM_SEQUENCES, training_text
from workers.tasks import BuildLevels, Calibrate, Evaluate, Teach
from workers.text.text_sources import STDLIB
from workers.text.tokens import TextRequest, TokenSet
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "recovery.json"
PAGE = ROOT / "docs" / "recovery.md"
MARKS = "<!-- recovered: begin -->", "<!-- recovered: end -->"
BUDGETS = (2.25, 2.5, 3.0)
PRUNED = {"pruned": "b4-g64-s2:4", "half": "b4-g64-s0.5"}
_WHOLE = "b4-g64"
METHODS = ("refit", "scales", "low-rank", "restore", "quantization-aware")


def plans(arena: Arena, kinds: tuple[str, ...]) -> Iterator[tuple[str, str, Plan]]:
    """Yield (name, kind, plan)."""
    allocations = json.loads(ALLOCATIONS.read_text(encoding="utf-8"))
    for budget in BUDGETS:
        for around in (k for k in ("trellis", "searched") if k in kinds):
            yield f"{budget} {around}", around, make_plan(allocations[str(budget)], around, frozenset(), 0)
    pruned = [kind for kind in PRUNED if kind in kinds]
    for kind in pruned:
        yield f"{kind} {PRUNED[kind]}", kind, uniform(arena, PRUNED[kind])
    if pruned:
        yield f"whole {_WHOLE}", "whole", uniform(arena, _WHOLE)


def uniform(arena: Arena, text: str) -> Plan:
    """Return a plan of one level for the linear layers, and 8 bits for the embedding."""
    level, embedding = parse_level(text), parse_level("b8-g64")
    return Plan.of({m.name: level if m.kind == "linear" else embedding for m in arena.inventory.modules})


def lesson_of(arena: Arena, plan: Plan, start: Values, seed: int, minutes: float | None) -> Lesson:
    """Return what a recovery of a plan is told."""
    request = TextRequest(STDLIB, SEQUENCE_LENGTH, NUM_CALIBRATION, NUM_CALIBRATION // 4, NUM_CALIBRATION // 2, seed)
    return Lesson(
        arena.workspace,
        plan,
        start,
        progress=lambda sentence, _: print(sentence, flush=True),
        text=lambda: training_text(arena.workspace, start.tokens, request, NUM_SEQUENCES, is_own=True),
        seed=seed,
        max_seconds=None if minutes is None else 60 * minutes,
    )


def _row(
    arena: Arena, plan: Plan, recovered: Callable[[], Recovered], start: Values, judges: TokenSet
) -> dict[str, Any]:
    started = time.process_time()
    found = recovered()
    spent, made = time.process_time() - started, found.fitted.values
    before, after = (judged(arena, plan, values, judges) for values in (start, made))
    return {
        "size_bytes": plan_bytes(arena.inventory, plan).weight_bytes,
        "plan": plan.digest,
        "decided": [found.kl_before, found.kl_after],
        "kept": found.kept,
        "judged": [before.kl_divergence, after.kl_divergence],
        "judged_ratio": round(after.kl_divergence / before.kl_divergence, 4),
        "judged_difference_ci95": list(paired_interval(after.sequence_kl, before.sequence_kl)),
        "failure": found.fitted.failure,
        "cpu_seconds": round(spent, 1),
        "load_average": os.getloadavg()[0],
        **found.fitted.figures,
    }


def judged(arena: Arena, plan: Plan, values: Values, judges: TokenSet) -> Any:
    """Return what a plan loses with some values on judging text."""
    named = replace(judges, digests=(values.tokens.digests[0], *judges.digests[1:]))
    return Worker(replace(arena.workspace, model_folder=values.model_folder)).run(Evaluate(named, plan, "held_out"))


def measure(arena: Arena, plan: Plan, decides: TokenSet, judges: TokenSet, asked: Any) -> Iterator[dict[str, Any]]:
    """Yield a row for each recovery of a plan that is not known yet; all but the refit begin with what that made."""
    able = [name for name in asked.methods if name != "refit" and RECOVERIES[name].can_help(arena.inventory, plan)]
    wanted = [(seed, name) for seed in asked.seeds for name in able if asked.wants(name, seed)]
    if not wanted and not asked.wants("refit", 0):
        return
    for module in arena.inventory.modules:
        level = plan[module.name]
        arena.worker.run(BuildLevels(arena.tokens, module.name, ((level, module_bytes(module, level)),), (level,)))
    start, done = Values(decides, str(arena.model_folder)), dict[str, Recovered]()

    def refit() -> Recovered:
        done["refit"] = recover_if_better(RECOVERIES["refit"], lesson_of(arena, plan, start, 0, None))
        return done["refit"]

    if asked.wants("refit", 0):
        yield {"method": "refit", "seed": 0, **_row(arena, plan, refit, start, judges)}
    if not wanted:
        return
    first = done.get("refit") or refit()
    for seed, name in wanted:
        lesson = lesson_of(arena, plan, first.values, seed, asked.minutes)
        recover = partial(recover_if_better, RECOVERIES[name], lesson, first.after if first.kept else first.before)
        yield {"method": name, "seed": seed, **_row(arena, plan, recover, first.values, judges)}


class _Asked:
    """What one plan is asked for: seeds and methods, those that are known left out."""

    def __init__(self, options: argparse.Namespace, known: set[tuple[str, int]]) -> None:
        self.seeds, self.methods, self.minutes, self._known = options.seeds, options.methods, options.minutes, known

    def wants(self, method: str, seed: int) -> bool:
        """Tell whether a row is not known yet."""
        return (method, seed) not in self._known


def tables(rows: Sequence[dict[str, Any]]) -> str:
    """Return all rows as a table, and the learning curves as another one: core minutes and KL on selection text."""
    lines = ["| plan | recovery | seed | KL before | KL after | ratio | kept | core minutes |", "|---" * 8 + "|"]
    for row in rows:
        before, after = row["judged"]
        told = f"{before:.5f} | {after:.5f} | {row['judged_ratio']:.3f} | {'yes' if row['kept'] else 'no'}"
        lines.append(f"| {row['name']} | {row['method']} | {row['seed']} | {told} | {row['cpu_seconds'] / 60:.1f} |")
    lines += ["", "| plan | recovery | seed | minutes: KL on selection text |", "|---" * 4 + "|"]
    for row in (row for row in rows if row.get("curve")):
        curve = row["curve"][:: max(1, len(row["curve"]) // 6)]
        told = ", ".join(f"{seconds / 60:.1f}: {kl:.4f}" for _, seconds, _, kl in curve)
        lines.append(f"| {row['name']} | {row['method']} | {row['seed']} | {told} |")
    return "\n".join(lines)


def write_page(rows: Sequence[dict[str, Any]]) -> None:
    """Put the tables into docs/recovery.md, in place of those that are there."""
    begin, end = MARKS
    before, rest = PAGE.read_text(encoding="utf-8").split(begin)
    PAGE.write_text(f"{before}{begin}\n\n{tables(rows)}\n\n{end}{rest.split(end)[1]}", encoding="utf-8")


def main() -> None:
    """Recover, judge, print and write, row after row; the page has the tables of the committed result at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", default=["trellis", "searched", *PRUNED])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    arena = Arena(options.folder)
    arena.worker.run(Calibrate(arena.tokens))
    decides, judges = texts(arena)
    arena.worker.run(Teach(judges, "held_out"))
    rows = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else []
    for name, kind, plan in plans(arena, tuple(options.kinds)):
        known = {(row["method"], row["seed"]) for row in rows if row["name"] == name}
        for row in measure(arena, plan, decides, judges, _Asked(options, known)):
            rows.append({"name": name, "kind": kind, **row})
            print({k: v for k, v in rows[-1].items() if k != "curve"}, flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if options.out == RESULT:
        write_page(rows)


if __name__ == "__main__":
    main()
