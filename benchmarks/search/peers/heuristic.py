"""What people do by hand (llama.cpp's mixes): embedding, first and last blocks above, the rest alike.

Variants: k = 0, 1, 2 blocks at each end, with or without the embedding. The chosen modules go one level above the
uniform level of the budget, the others to the highest uniform level that then fits; left-over bytes lift single modules
by one level in the same order, ends first, then from the outside in. The best variant is chosen by measurement.
"""

from benchmarks.search.arena import Arena
from benchmarks.search.peers.common import Archive, Budgets, Plans, ceiling_plan, fill, floor_plan
from space.menu import SearchSpace
from space.plan import Plan

VARIANTS = ((0, True), (1, False), (1, True), (2, False), (2, True))
"""(blocks at each end, embedding too)"""


def priority(space: SearchSpace, ends: int, *, embedding: bool) -> tuple[list[str], list[str]]:
    """Return (modules above the rest, the rest), each in the order in which they are lifted."""
    last = space.inventory.num_blocks - 1

    def depth(block: int | None) -> int:
        """Return how far a block is from the nearer end; -1 outside the blocks."""
        return -1 if block is None else min(block, last - block)

    modules = sorted(space.inventory.modules, key=lambda m: depth(m.block))
    favoured = [m.name for m in modules if (depth(m.block) < ends if m.block is not None else embedding)]
    return favoured, [m.name for m in modules if m.name not in favoured]


def variant(space: SearchSpace, size_bytes: int, floor: Plan, ends: int, *, embedding: bool) -> Plan:
    """Return one variant within a size."""
    favoured, rest = priority(space, ends, embedding=embedding)
    above = ceiling_plan(space, space.weight_bytes(floor) + 1)
    for _, base in reversed(list(space.uniform_plans())):
        plan = base.replace({name: above[name] for name in favoured})
        if space.weight_bytes(plan) <= size_bytes and space.weight_bytes(base) < space.weight_bytes(above):
            return fill(space, plan, size_bytes, rest)
    return fill(space, floor, size_bytes, favoured + rest)


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:  # noqa: ARG001 (the arena's pool has the seed)
    """Return the best measured variant of each budget."""
    plans = {}
    for bits, size_bytes in budgets.items():
        archive = Archive(arena.space)
        for ends, embedding in VARIANTS:
            floor = floor_plan(arena.space, size_bytes)
            plan = variant(arena.space, size_bytes, floor, ends, embedding=embedding)
            if plan.digest not in archive.entries:
                archive.add(plan, arena.measure(plan))
        plans[bits] = archive.best_within(size_bytes)
    return plans
