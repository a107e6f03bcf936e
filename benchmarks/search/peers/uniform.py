"""Uniform plans: every module at one level, the largest that fits; between two integers that is the lower one."""

from benchmarks.search.arena import Arena
from benchmarks.search.peers.common import Budgets, Plans, floor_plan


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:  # noqa: ARG001 (nothing is random)
    """Return the uniform floor of each budget; it costs nothing."""
    return {bits: floor_plan(arena.space, size_bytes) for bits, size_bytes in budgets.items()}
