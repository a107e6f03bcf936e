"""HIGGS (arXiv 2411.17525): loss = sum of alpha_l t_l^2, with t_l^2 the relative squared error of the weight.

alpha_l comes from one perturbation per module: the KL of this module at 3 bits, all others nearly lossless.
"""

from benchmarks.search.arena import Arena
from benchmarks.search.peers.common import Budgets, Losses, Plans, solve_knapsack
from benchmarks.search.peers.weights import level_change, level_store, load_dense
from space.level import Level
from space.menu import nearest_level

_PROBE = Level(3, 64)


def weight_errors(arena: Arena) -> Losses:
    """Return module name -> level -> ||W_level - W||^2 / ||W||^2."""
    _, dense = load_dense(arena)
    store = level_store(arena)
    found: dict[str, dict[Level, float]] = {}
    for name, levels in arena.space.levels.items():
        norm = float(dense[name].square().sum())
        changes = {level: level_change(store, name, level, dense[name]) for level in levels}
        found[name] = {level: float(change.square().sum()) / norm for level, change in changes.items()}
    return found


def run(arena: Arena, budgets: Budgets, seed: int) -> Plans:  # noqa: ARG001 (the arena's pool has the seed)
    """Return the plans of the least alpha t^2."""
    errors = weight_errors(arena)
    *_, (_, base) = arena.space.uniform_plans()
    base_kl = arena.kl(base)
    losses = {}
    for name, levels in arena.space.levels.items():
        probe = nearest_level(levels, _PROBE)
        kl = float((arena.kl(base.replace({name: probe})) - base_kl).mean())
        alpha = max(kl, 0.0) / (errors[name][probe] - errors[name][base[name]])
        losses[name] = {level: alpha * errors[name][level] for level in levels}
    return solve_knapsack(arena.space, losses, budgets)
