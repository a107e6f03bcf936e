"""What a refit is worth at export: KL of 20 plans of the bundled model before and after, in the same bytes.

    python -m benchmarks.levels.refit [--plans 20] [--folder DIR] [--out FILE]

Four plans at each of five budgets, all around the allocation of bits that tightfit's own search found there
(`allocations.json`, of the axes league's menu of bits): the one found, the same bits as rotated trellises, those with a
quarter of the modules a bit up or down, and a mix of every kind of level. A refit is kept or not by 64 sequences of
held-out text, as an export does, and judged by 64 others. Killed, it goes on when called again.
"""

import argparse
import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.levels.run import ROOT
from benchmarks.search.arena import GROUP_SIZE, Arena, default_folder
from space.cost import module_bytes, plan_bytes
from space.level import Level, parse_level
from space.measurement import Measurement
from space.plan import Plan
from space.results.front import paired_interval
from workers.recover.recovery import Lesson, Values, recover_if_better
from workers.recover.refit import REFIT, refitted_tokens
from workers.tasks import BuildLevels, Calibrate, Evaluate, Teach
from workers.text.tokens import SPLITS, TokenSet, save_tokens
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "levels_refit.json"
ALLOCATIONS = Path(__file__).with_name("allocations.json")
KINDS = ("trellis", "mixed", "searched", "moved")
BUDGETS = (2.5, 3.0, 3.5, 2.25, 4.0)
_MIXED = ("b{}-gch-t-h", "b{}-g32", "b{}-g64", "b{}-g128", "b{}-gch", "b{}-gch-t-h-r8", "b{}-g64-r8", "b{}-gch-h")
_MOVED_SHARE = 0.25
_MIN_BITS, _MAX_BITS = 2, 8


def make_plan(allocation: dict[str, int], kind: str, linear: frozenset[str], seed: int) -> Plan:
    """Return a plan around an allocation of bits.

    Args:
        allocation: module name -> bits.
        kind: one of KINDS.
        linear: names of the modules that may take a low-rank correction.
        seed: of what is drawn.

    """
    rng = random.Random(seed)
    levels = {}
    for name, bits in allocation.items():
        if kind == "moved" and rng.random() < _MOVED_SHARE:
            bits = min(max(bits + rng.choice((-1, 1)), _MIN_BITS), _MAX_BITS)  # noqa: PLW2901 (this module's)
        if kind == "searched":
            levels[name] = Level(bits, GROUP_SIZE)
        elif kind == "mixed" and name in linear:
            levels[name] = parse_level(rng.choice(_MIXED).format(bits))
        else:
            levels[name] = Level(bits, None, coding="trellis", rotated=True)
    return Plan.of(levels)


def plans(arena: Arena) -> list[tuple[float, str, Plan]]:
    """Return (budget, kind, plan) of all 20."""
    allocations = json.loads(ALLOCATIONS.read_text(encoding="utf-8"))
    linear = frozenset(m.name for m in arena.inventory.modules if m.kind == "linear")
    return [
        (budget, kind, make_plan(allocations[str(budget)], kind, linear, seed))
        for seed, (kind, budget) in enumerate((kind, budget) for kind in KINDS for budget in BUDGETS)
    ]


def texts(arena: Arena) -> tuple[TokenSet, TokenSet]:
    """Return the text that decides and the text that judges, each as held-out text; both have the arena's other."""
    found = []
    for first in (0, 1):
        chosen = {split: arena.tokens.load(split) for split in SPLITS}
        chosen["held_out"] = chosen["held_out"][first::4]
        tokens = save_tokens(chosen, arena.folder, f"{arena.tokens.note}; held-out part {first} of 4")
        arena.worker.run(Teach(tokens, "held_out"))
        found.append(tokens)
    return found[0], found[1]


def measure(arena: Arena, plan: Plan, decides: TokenSet, judges: TokenSet) -> dict[str, Any]:
    """Refit a plan as an export does, and judge both forms of it."""
    for module in arena.inventory.modules:
        level = plan[module.name]
        sizes = ((level, module_bytes(module, level)),)
        arena.worker.run(BuildLevels(arena.tokens, module.name, sizes, (level,)))
    started = time.process_time()
    start = Values(decides, arena.workspace.model_folder)
    found = recover_if_better(REFIT, Lesson(arena.workspace, plan, start))
    seconds = time.process_time() - started
    fitted = replace(judges, digests=(refitted_tokens(decides, plan).digests[0], *judges.digests[1:]))
    before, after = (_judge(arena, plan, tokens) for tokens in (judges, fitted))
    exported = after if found.kept else before
    return {
        "size_bytes": plan_bytes(arena.inventory, plan).weight_bytes,
        "plan": plan.digest,
        "decided": [found.kl_before, found.kl_after],
        "kept": found.kept,
        "judged": [before.kl_divergence, after.kl_divergence],
        "judged_difference_ci95": list(paired_interval(after.sequence_kl, before.sequence_kl)),
        "exported_ratio": round(exported.kl_divergence / before.kl_divergence, 4),
        "cpu_seconds": round(seconds),
        "load_average": os.getloadavg()[0],
    }


def _judge(arena: Arena, plan: Plan, tokens: TokenSet) -> Measurement:
    found: Measurement = Worker(arena.workspace).run(Evaluate(tokens, plan, "held_out"))
    return found


def main() -> None:
    """Refit, judge, print and write, plan after plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plans", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    arena = Arena(options.folder)
    arena.worker.run(Calibrate(arena.tokens))
    decides, judges = texts(arena)
    rows = json.loads(options.out.read_text(encoding="utf-8"))["plans"] if options.out.exists() else []
    known = {(row["budget"], row["kind"], row["plan"]) for row in rows}
    for budget, kind, plan in plans(arena)[: options.plans]:
        if (budget, kind, plan.digest) in known:
            continue
        rows.append({"budget": budget, "kind": kind, **measure(arena, plan, decides, judges)})
        print(rows[-1], flush=True)
        document = {"worst_exported_ratio": max(row["exported_ratio"] for row in rows), "plans": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
