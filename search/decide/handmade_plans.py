"""The plans that people make by hand, which a front must never be measurably worse than."""

from collections.abc import Collection

from space.menu import SearchSpace, nearest_level
from space.plan import Plan

HEURISTIC = "heuristic"
"""Origin of the trials that measure these plans; uniform plans have an origin of their own."""
GIVEN = "given"
"""Origin of the trials that measure plans which a request brings."""


def heuristic_plans(space: SearchSpace) -> list[tuple[str, Plan]]:
    """Return (name, plan): each uniform plan with its first and last blocks one bit-width up, alone and with the ends.

    The ends are the modules outside the blocks: the embedding and an untied head. Bit-widths are those of the uniform
    plans; the widest one has none above it. Pins are kept, and no plan equals a uniform one or another of these.
    """
    seen = {plan.digest for _, plan in space.uniform_plans()}
    found = []
    for level, above in zip(space.uniform_levels, space.uniform_levels[1:], strict=False):
        plan = space.uniform_plan(level)
        for what, lifted in _lifted_items(space).items():
            candidate = space.changed(plan, {item: nearest_level(space.levels[item], above) for item in lifted})
            if candidate.digest not in seen:
                seen.add(candidate.digest)
                found.append((f"{level} with {what} at {above}", candidate))
    return found


def _lifted_items(space: SearchSpace) -> dict[str, list[str]]:
    edges = {0, space.inventory.num_blocks - 1}
    return {
        "first and last blocks": _items(space, edges),
        "first and last blocks and the ends": _items(space, {*edges, None}),
    }


def _items(space: SearchSpace, blocks: Collection[int | None]) -> list[str]:
    return [module.name for module in space.inventory.modules if module.name in space.items and module.block in blocks]
