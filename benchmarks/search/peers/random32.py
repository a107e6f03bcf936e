"""The best of 32 random plans per budget (the baseline of arXiv 2410.14649 for fractional bits), 8,192 tokens each."""

import numpy as np

from benchmarks.search.arena import Arena
from benchmarks.search.peers.common import Archive, Budgets, Plans, ceiling_plan, fill, lower_to_fit, neighbour
from space.menu import SearchSpace
from space.plan import Plan

NUM_PLANS = 32
NUM_SEQUENCES = 32
_RAISED_SHARE = 0.25


def random_mix(space: SearchSpace, size_bytes: int, rng: np.random.Generator) -> Plan:
    """Return a random plan around the uniform mix that fills a size: some modules up, others down, the rest filled."""
    plan = ceiling_plan(space, size_bytes)
    names = [name for name, _ in plan.levels]
    raised = rng.choice(names, int(_RAISED_SHARE * len(names)), replace=False)
    changes = {name: neighbour(space, name, plan[name], 1) for name in map(str, raised)}
    plan = plan.replace({name: level for name, level in changes.items() if level is not None})
    plan = lower_to_fit(space, plan, size_bytes, rng)
    return fill(space, plan, size_bytes, [str(name) for name in rng.permutation(names)])


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:
    """Return the best of the random plans that fit each budget."""
    rng, archive = np.random.default_rng(seed), Archive(arena.space)
    for size_bytes in budgets.values():
        for _ in range(NUM_PLANS):
            plan = random_mix(arena.space, size_bytes, rng)
            archive.add(plan, arena.measure(plan, NUM_SEQUENCES))
    return {bits: archive.best_within(size_bytes) for bits, size_bytes in budgets.items()}
