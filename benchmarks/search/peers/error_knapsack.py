"""Calibrated relative output errors, added up, and a knapsack (SPDY, and EvoPress' `dp_search`); no tokens."""

from benchmarks.search.arena import Arena
from benchmarks.search.peers.common import Budgets, Plans, solve_knapsack


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:  # noqa: ARG001 (nothing is random)
    """Return the plans of the least summed output error."""
    return solve_knapsack(arena.space, arena.errors, budgets)
