"""Exact regret: one decision per block, three bit-widths, all 3^8 plans measured, so that the best plan is known.

    python -m benchmarks.search.truth [--folder ARENA] [--sequences 8] [--out FILE]

All plans are enumerated once with a prefix trie (a block is run once for each choice of the blocks before it), and kept
in the folder. Then the search's own strategy runs on the table for several seeds, one job at every size that can be
reached, and the best plan that each job knows is compared with the best one there is, on the same text: what is left is
what the search misses, nothing else. The same for warm jobs, which answer from one job at the middle size.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.search.arena import GROUP_SIZE, Arena, default_folder
from search.decide.observation import EXCHANGE, KNAPSACK, KNOWN, REFINE, SCREEN, Observation, Proposal
from search.decide.steps import FrontStrategy
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.menu import Menu, SearchSpace, build_space
from space.plan import Plan
from workers.tasks import Evaluate

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "search" / "truth.json"
BITS = (2, 3, 4)
SEEDS = (0, 1, 2, 3, 4)
_SAVE_EVERY = 81
_MAX_TRIALS = 200
_PLANS = (KNAPSACK, EXCHANGE, REFINE)  # which a later job knows from an earlier one
_Row = tuple[int, list[float]]
"""row of the table, KL of each sequence"""


class Truth:
    """The table of all plans, and the small space whose modules are whole blocks."""

    def __init__(self, arena: Arena, num_sequences: int) -> None:
        """Build levels; `table` is measured or read; `sizes` are the weight bytes of its rows."""
        self.arena, self.num_sequences = arena, num_sequences
        self.num_blocks = arena.inventory.num_blocks
        self.rest = arena.space.uniform_plan(Level(8, GROUP_SIZE))  # what belongs to no block stays at 8 bits
        self._held = self.rest
        self.space = self._block_space()
        plans = product([Level(b, GROUP_SIZE) for b in BITS], repeat=self.num_blocks)
        names = list(self.space.levels)
        self.sizes = np.array([self.space.weight_bytes(Plan.of(dict(zip(names, p, strict=True)))) for p in plans])
        self.table = self._table()
        self.sketches: dict[tuple[str, int], np.ndarray | None] = {}

    def _block_space(self) -> SearchSpace:
        """Return a space of one module per block with the block's values, and so its bytes at every level."""
        blocks = []
        for block in range(self.num_blocks):
            values = sum(m.weight.num_elements for m in self.arena.inventory.modules if m.block == block)
            weight = TensorInfo(f"block.{block}.weight", (values // 256, 256), "BF16")
            blocks.append(ModuleInfo(f"block.{block}", "linear", weight, block))
        inventory = Inventory(tuple(blocks), (), None, self.num_blocks)
        return build_space(inventory, Menu(BITS, (GROUP_SIZE,), (0.0,), (0,), ("integer",)), "packed", ())

    def real(self, plan: Plan) -> Plan:
        """Return the plan of the model that a plan of blocks stands for."""
        changes = {m.name: plan[f"block.{m.block}"] for m in self.arena.inventory.modules if m.block is not None}
        return self.rest.replace(changes)

    def key(self, plan: Plan) -> int:
        """Return a plan's row in the table."""
        return int(np.ravel_multi_index([BITS.index(v.bits or 0) for _, v in plan.levels], (3,) * self.num_blocks))

    def _table(self) -> np.ndarray:
        """Return (3^blocks, sequences) KL; a run that was killed goes on from what it saved."""
        path = self.arena.folder / f"truth-{self.arena.tokens.of('search')[:12]}-{self.num_sequences}.npy"
        table = np.full((3**self.num_blocks, self.num_sequences), np.nan)
        if path.exists():
            table = np.load(path)
        done = int((~np.isnan(table[:, 0])).sum())
        for row, kl in self._enumerate(done) if done < len(table) else ():
            table[row] = kl
            if (row + 1) % _SAVE_EVERY == 0:
                np.save(path, table)
                print(f"{row + 1} of {len(table)} plans", flush=True)
        return table

    def _enumerate(self, done: int) -> Iterator[_Row]:
        """Yield the rows behind the first `done` ones; in this order a worker runs each block once per prefix."""
        arena = self.arena
        arena.teach("search")
        for row in range(done, 3**self.num_blocks):
            choices = np.unravel_index(row, (3,) * self.num_blocks)
            blocks = Plan.of({f"block.{i}": Level(BITS[c], GROUP_SIZE) for i, c in enumerate(choices)})
            task = Evaluate(arena.tokens, self.real(blocks), "search", self.num_sequences)
            yield row, arena.worker.run(task).sequence_kl


def search(truth: Truth, size: int, seed: int, known: Sequence[Observation] | None = None) -> list[Observation]:
    """Return what is known after a job at a size: one of its own, or a warm one after an earlier job's.

    What the strategy measures is read from the table; sketches of probes come from the model.
    """
    errors = {
        name: {v: float(np.mean([truth.arena.errors[m.name][v] for m in _modules(truth, name)])) for v in levels}
        for name, levels in truth.space.levels.items()
    }
    is_warm = known is not None
    strategy = FrontStrategy(truth.space, errors, size, num_sequences=truth.num_sequences, warm=is_warm, seed=seed)
    found = [replace(o, origin=KNOWN) if o.origin in _PLANS else o for o in known or () if o.origin != SCREEN]
    limit = _MAX_TRIALS + len(found)
    while batch := strategy.next_batch(found, limit - len(found)):
        found += [_observe(truth, proposal) for proposal in batch]
    return found


def _modules(truth: Truth, block_name: str) -> list[ModuleInfo]:
    block = int(block_name.rpartition(".")[2])
    return [m for m in truth.arena.inventory.modules if m.block == block]


def _observe(truth: Truth, proposal: Proposal) -> Observation:
    kl = truth.table[truth.key(proposal.plan)][: proposal.num_sequences]
    sketch = None if proposal.base is None else _sketch(truth, proposal.plan, len(kl))
    return Observation(proposal.plan, proposal.origin, tuple(kl.tolist()), proposal.base, sketch)


def _sketch(truth: Truth, plan: Plan, count: int) -> np.ndarray | None:
    if (plan.digest, count) not in truth.sketches:
        task = Evaluate(truth.arena.tokens, truth.real(plan), "search", count, sketch=True)
        truth.sketches[plan.digest, count] = truth.arena.worker.run(task).sketch
    return truth.sketches[plan.digest, count]


def regret(truth: Truth, size: int, known: Sequence[Observation]) -> float:
    """Return how much worse the best measured plan within a size is than the best there is."""
    kl = truth.table.mean(1)
    rows = [truth.key(o.plan) for o in known if o.base is None and len(o.sequence_kl) == truth.num_sequences]
    best = min(kl[row] for row in rows if truth.sizes[row] <= size)
    return float(best / kl[truth.sizes <= size].min() - 1)


def compare(truth: Truth, seed: int) -> dict[str, Any]:
    """Return the regret at every size of a job of its own, and of a warm one after the job at the middle size."""
    sizes = sorted(set(truth.sizes.tolist()))
    own = {size: search(truth, size, seed) for size in sizes}
    first = own[sizes[len(sizes) // 2]]
    warm = {size: search(truth, size, seed, first) for size in sizes}
    return {
        "seed": seed,
        "plans_measured": mean(len({o.plan.digest for o in found if o.base is None}) for found in own.values()),
        "probes": mean(sum(o.base is not None for o in found) for found in own.values()),
        **{
            name: {"mean": mean(regrets.values()), "worst": max(regrets.values()), "by_size": regrets}
            for name, found in (("own_job", own), ("warm_job", warm))
            for regrets in [{size: regret(truth, size, found[size]) for size in sizes}]
        },
    }


def main() -> None:
    """Enumerate, search, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    truth = Truth(Arena(options.folder), options.sequences)
    rows = []
    for seed in SEEDS:
        rows.append(compare(truth, seed))
        print({k: v for k, v in rows[-1].items() if not isinstance(v, dict)}, flush=True)
        for name in ("own_job", "warm_job"):
            print(f"  {name}: mean {rows[-1][name]['mean']:.4f}, worst {rows[-1][name]['worst']:.4f}", flush=True)
    result = {"num_plans": len(truth.table), "sequences": options.sequences, "seeds": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
