"""What a refit is worth: test KL of plans of rotated trellises on the bundled model, before and after, same bytes.

    python -m benchmarks.levels.refit [--plans 2.5,3] [--sequences 64] [--out FILE]

A plan of 2.5 gives modules 2 and 3 bits in turn, the embedding 4; test text is the arena's, which nothing else reads.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.levels.run import ROOT
from benchmarks.search.arena import Arena, default_folder, seconds_since
from space.cost import module_bytes
from space.front import paired_interval
from space.level import Level
from space.plan import Plan
from workers.refit import refit
from workers.tasks import BuildLevels, Calibrate, Evaluate, Teach
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "levels_refit.json"
_EMBEDDING_BITS = 4


def plan_of(arena: Arena, bits: float) -> Plan:
    """Return the plan whose modules take the two bit-widths around `bits` in turn, in its proportion."""
    levels, debt = {}, 0.0
    for module in arena.inventory.modules:
        debt += bits - int(bits)
        width = int(bits) + (debt >= 1)
        debt -= debt >= 1
        width = width if module.block is not None else _EMBEDDING_BITS
        levels[module.name] = Level(width, None, coding="trellis", rotated=True)
    return Plan.of(levels)


def main() -> None:
    """Refit, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--plans", default="2.5,3")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    arena = Arena(options.folder)
    arena.worker.run(Calibrate(arena.tokens))
    arena.worker.run(Teach(arena.tokens, "held_out"))
    rows: list[dict[str, Any]] = []
    for bits in map(float, options.plans.split(",")):
        plan = plan_of(arena, bits)
        for module in arena.inventory.modules:
            level = plan[module.name]
            sizes = ((level, module_bytes(module, level)),)
            arena.worker.run(BuildLevels(arena.tokens, module.name, sizes, (level,)))
        started = time.monotonic()
        named = refit(arena.workspace, plan, arena.tokens)
        seconds = seconds_since(started)
        before, after = (
            Worker(arena.workspace).run(Evaluate(tokens, plan, "held_out", options.sequences))
            for tokens in (arena.tokens, named)
        )
        row = {
            "bits": bits,
            "kl_before": before.kl_divergence,
            "kl_after": after.kl_divergence,
            "ratio": round(after.kl_divergence / before.kl_divergence, 3),
            "difference_ci95": list(paired_interval(after.sequence_kl, before.sequence_kl)),
            "seconds": seconds,
        }
        rows.append(row)
        print(row, flush=True)
        document = {"sequences": options.sequences, "plans": rows}
        options.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
