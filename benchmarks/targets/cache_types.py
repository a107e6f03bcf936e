"""What the types of key/value cache of each runtime lose: weights dense, all keys and values in one type.

    python -m benchmarks.targets.cache_types [--out FILE]

KL on the arena's held-out sequences (`benchmarks/search/arena.py`); bits are those of a value, scales counted.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.levels.two_sided import Bench
from benchmarks.targets.input_rounding import ROOT
from space.codings.cache_coding import CACHE_CODINGS
from space.cost import module_bytes
from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from space.results.front import bootstrap_interval
from space.targets.cache_sites import with_cache_sites
from space.targets.target_table import TARGETS
from workers.tasks import Evaluate
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "targets_cache_types.json"


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), 0, 128)
        for target in (name for name, entry in TARGETS.items() if entry.cache_coding):
            coding = next(c for c in CACHE_CODINGS if c.name == TARGETS[target].cache_coding)
            inventory = with_cache_sites(bench.inventory, context=1, batch=1, target=target)
            for bits in sorted(coding.bits, reverse=True):
                rows.append(_row(bench, inventory, target, Level(bits, coding=coding.name)))
                print(json.dumps(rows[-1]), flush=True)
    options.out.write_text(json.dumps({"rows": rows}, indent=1) + "\n")


def _row(bench: Bench, inventory: Inventory, target: str, level: Level) -> dict[str, Any]:
    workspace = replace(bench.workspace, inventory=inventory)
    plan = Plan.dense(module.name for module in inventory.modules).mapping
    found = Worker(workspace).run(
        Evaluate(bench.tokens, Plan.of({**plan, **{c.name: level for c in inventory.caches}}), "held_out")
    )
    stored = sum(module_bytes(cache, level, target) for cache in inventory.caches)
    values = sum(cache.weight.num_elements for cache in inventory.caches)
    low, high = bootstrap_interval(found.sequence_kl)
    row = {"target": target, "level": str(level), "bits": 8 * stored / values, "kl_divergence": found.kl_divergence}
    return row | {"kl_ci95": [low, high]}


if __name__ == "__main__":
    main()
