"""Exact regret: one decision per block, three bit-widths, all 3^8 plans measured, so that the best plan is known.

    python -m benchmarks.search.truth [--folder ARENA] [--sequences 8] [--out FILE]

All plans are enumerated once with a prefix trie (a block is run once for each choice of the blocks before it), and kept
in the folder. Then the search's own strategy runs on the table for several seeds, and at every reachable size its best
plan is compared with the best one there is, on the same text: what is left is what the search misses, nothing else.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks.search.arena import GROUP_SIZE, Arena, default_folder
from search.observation import Observation, Proposal
from search.strategy import FrontStrategy
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
_Row = tuple[int, list[float]]
"""row of the table, KL of each sequence"""


class Truth:
    """The table of all plans, and the small space whose modules are whole blocks."""

    def __init__(self, arena: Arena, num_sequences: int) -> None:
        """Build levels; `table` is measured or read."""
        self.arena, self.num_sequences = arena, num_sequences
        self.num_blocks = arena.inventory.num_blocks
        self.rest = arena.space.uniform_plan(Level(8, GROUP_SIZE))  # what belongs to no block stays at 8 bits
        self._held = self.rest
        self.space = self._block_space()
        self.table = self._table()

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


def search(truth: Truth, seed: int) -> list[Observation]:
    """Return what the strategy measures: KL from the table, sketches of probes from the model."""
    space = truth.space
    errors = {
        name: {v: float(np.mean([truth.arena.errors[m.name][v] for m in _modules(truth, name)])) for v in levels}
        for name, levels in space.levels.items()
    }
    middle = (space.smallest_bytes + space.largest_bytes) // 2
    strategy = FrontStrategy(space, errors, middle, num_sequences=truth.num_sequences, seed=seed)
    observations: list[Observation] = []
    while batch := strategy.next_batch(observations, _MAX_TRIALS - len(observations)):
        observations += [_observe(truth, proposal) for proposal in batch]
        if sum(o.base is None for o in observations) > 60:  # noqa: PLR2004 (under 1 % of all plans)
            break
    return observations


def _modules(truth: Truth, block_name: str) -> list[ModuleInfo]:
    block = int(block_name.rpartition(".")[2])
    return [m for m in truth.arena.inventory.modules if m.block == block]


def _observe(truth: Truth, proposal: Proposal) -> Observation:
    kl = truth.table[truth.key(proposal.plan)][: proposal.num_sequences]
    sketch = None
    if proposal.base is not None:
        count = proposal.num_sequences or truth.num_sequences
        task = Evaluate(truth.arena.tokens, truth.real(proposal.plan), "search", count, sketch=True)
        sketch = truth.arena.worker.run(task).sketch
    return Observation(proposal.plan, proposal.origin, tuple(kl.tolist()), proposal.base, sketch)


def regrets(truth: Truth, observations: Sequence[Observation]) -> dict[int, float]:
    """Return size -> how much worse than the best plan of at most that size the best measured one is."""
    mean = truth.table.mean(1)
    plans = [
        Plan.of({f"block.{i}": Level(b, GROUP_SIZE) for i, b in enumerate(bits)})
        for bits in product(BITS, repeat=truth.num_blocks)
    ]
    sizes = np.array([truth.space.weight_bytes(plan) for plan in plans])
    whole = [o.plan for o in observations if o.base is None and len(o.sequence_kl) == truth.num_sequences]
    found = {}
    for size in sorted(set(sizes.tolist())):
        fitting = [mean[truth.key(plan)] for plan in whole if truth.space.weight_bytes(plan) <= size]
        if fitting:
            found[size] = float(min(fitting) / mean[sizes <= size].min() - 1)
    return found


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
        observations = search(truth, seed)
        regret = regrets(truth, observations)
        rows.append(
            {
                "seed": seed,
                "plans_measured": sum(o.base is None for o in observations),
                "probes": sum(o.base is not None for o in observations),
                "mean_regret": float(np.mean(list(regret.values()))),
                "worst_regret": max(regret.values()),
                "regret": regret,
            }
        )
        print({k: v for k, v in rows[-1].items() if k != "regret"}, flush=True)
    result = {"num_plans": len(truth.table), "sequences": options.sequences, "seeds": rows}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
