"""EvoPress (arXiv 2410.14649), written anew from its description: (1 + lambda) evolution of level switches.

Super-fast setting: 16 children on 512 tokens, the best one and the parent on 8,192, each stage on its own fresh
minibatch, the same for all of a stage. A child takes min(U{1..3}, U{1..3}) flips; a flip lowers one module and raises
another one of the same number of parameters, so bytes are kept exactly (group rule "size", the shipped one: the tied
embedding is alone in its group and keeps its level). Rule "any" raises modules of any size and lowers random ones until
the plan fits; children of more than 10 changes or of less than 80 % of the freed bytes are drawn again.

Integer budgets start at uniform; others at the best of 16 random mixes of the two levels around.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from benchmarks.search.arena import NUM_POOL, SEQUENCE_LENGTH, Arena
from benchmarks.search.peers.common import Budgets, Plans, ceiling_plan, lower_to_fit, neighbour
from space.menu import SearchSpace
from space.plan import Plan

Rule = Literal["size", "any"]
OFFSPRING = 16
SCREEN_SEQUENCES = 2
FULL_SEQUENCES = 32
INITIALLY_GENERATED = 16
MAX_FLIPS = 3
MAX_CHANGES = 10
MIN_USED_SHARE = 0.8
GENERATION_COST = (OFFSPRING * SCREEN_SEQUENCES + 2 * FULL_SEQUENCES) * SEQUENCE_LENGTH


@dataclass(frozen=True)
class Mutation:
    """Draws children.

    Attributes:
        space: what may be chosen.
        size_bytes: the limit that rule "any" fills.
        groups: names of modules of equal size each, or all.
        rule: whether a flip stays inside a group.

    """

    space: SearchSpace
    size_bytes: int
    groups: tuple[tuple[str, ...], ...]
    rule: Rule

    @staticmethod
    def of(space: SearchSpace, size_bytes: int, rule: Rule) -> "Mutation":
        """Return the mutation of a group rule; with "any" all modules are one group."""
        groups: dict[int, list[str]] = {}
        for module in space.inventory.modules:
            groups.setdefault(module.weight.num_elements if rule == "size" else 0, []).append(module.name)
        return Mutation(space, size_bytes, tuple(tuple(names) for names in groups.values()), rule)

    def movable(self, names: Sequence[str], plan: Plan, step: int) -> list[str]:
        """Return the modules that have a level one step up or down."""
        return [name for name in names if neighbour(self.space, name, plan[name], step) is not None]

    def moved(self, plan: Plan, name: str, step: int) -> Plan:
        """Return the plan with one module moved by a step."""
        level = neighbour(self.space, name, plan[name], step)
        return plan if level is None else plan.replace({name: level})

    def child(self, parent: Plan, rng: np.random.Generator) -> Plan:
        """Return one child; it may equal its parent."""
        flips = int(min(rng.integers(1, MAX_FLIPS + 1, 2)))
        return self._switched(parent, flips, rng) if self.rule == "size" else self._traded(parent, flips, rng)

    def _switched(self, plan: Plan, flips: int, rng: np.random.Generator) -> Plan:
        """Return the plan after flips inside groups; as in the original, both ends of a flip see the same levels."""
        shares = np.array([len(group) for group in self.groups]) / sum(map(len, self.groups))
        for _ in range(flips):
            group = self.groups[rng.choice(len(self.groups), p=shares)]
            down, up = self.movable(group, plan, -1), self.movable(group, plan, 1)
            if not down or not up:
                continue
            lowered, raised = down[rng.integers(len(down))], up[rng.integers(len(up))]
            if lowered != raised:
                plan = self.moved(self.moved(plan, lowered, -1), raised, 1)
        return plan

    def _traded(self, parent: Plan, flips: int, rng: np.random.Generator) -> Plan:
        """Return the plan with modules raised, and random ones lowered until it fits."""
        names, plan = self.groups[0], parent
        for _ in range(flips):
            up = self.movable(names, plan, 1)
            plan = self.moved(plan, up[rng.integers(len(up))], 1) if up else plan
        added, changes, raised = self._bytes(plan) - self._bytes(parent), flips, self._bytes(plan)
        while self._bytes(plan) > self.size_bytes:
            down = self.movable(names, plan, -1)
            if not down:
                return parent
            plan, changes = self.moved(plan, down[rng.integers(len(down))], -1), changes + 1
        removed = raised - self._bytes(plan)
        acceptable = changes <= MAX_CHANGES and added >= MIN_USED_SHARE * removed
        return plan if acceptable else parent

    def _bytes(self, plan: Plan) -> int:
        return self.space.weight_bytes(plan)


def ladder(space: SearchSpace) -> SearchSpace:
    """Return the space with each module's levels up to the last of equal byte steps, so that switches keep bytes."""
    kept = {}
    for name, levels in space.levels.items():
        sizes = [space.sizes[name][level] for level in levels]
        steps = np.diff(sizes)
        equal = len(steps) if len(steps) == 0 or (steps == steps[0]).all() else int(np.argmin(steps == steps[0]))
        kept[name] = levels[: equal + 1]
    return space.restricted(kept)


def children(mutation: Mutation, parent: Plan, rng: np.random.Generator) -> list[Plan]:
    """Return OFFSPRING different children, none of them the parent."""
    found: dict[str, Plan] = {}
    while len(found) < OFFSPRING:
        child = mutation.child(parent, rng)
        if child.digest != parent.digest:
            found[child.digest] = child
    return list(found.values())


def start(arena: Arena, space: SearchSpace, size_bytes: int, rng: np.random.Generator) -> Plan:
    """Return the first parent: the uniform plan of just this size, or the best of random mixes on 8,192 tokens."""
    ceiling = ceiling_plan(space, size_bytes)
    if space.weight_bytes(ceiling) <= size_bytes:
        return ceiling
    mixes = [lower_to_fit(space, ceiling, size_bytes, rng) for _ in range(INITIALLY_GENERATED)]
    return best(arena, mixes, FULL_SEQUENCES, rng)[0]


def best(arena: Arena, plans: Sequence[Plan], count: int, rng: np.random.Generator) -> tuple[Plan, float]:
    """Return the plan of the least KL on one fresh minibatch, and this KL."""
    first = int(rng.integers(NUM_POOL))
    order = sorted(range(len(plans)), key=lambda i: [str(level) for _, level in plans[i].levels])
    found = {i: float(arena.kl(plans[i], first, count).mean()) for i in order}  # what they share is run once
    scores = [found[i] for i in range(len(plans))]
    index = int(np.argmin(scores))
    return plans[index], scores[index]


def evolve(arena: Arena, size_bytes: int, limit: float, rule: Rule, rng: np.random.Generator) -> Plan:
    """Return the last parent when the token-forwards are spent; the trace holds each parent and its last KL."""
    begun, space = arena.token_forwards, ladder(arena.space)
    mutation = Mutation.of(space, size_bytes, rule)
    parent = start(arena, space, size_bytes, rng)
    while arena.token_forwards - begun + GENERATION_COST <= limit:
        survivor, _ = best(arena, children(mutation, parent, rng), SCREEN_SEQUENCES, rng)
        parent, kl = best(arena, [parent, survivor], FULL_SEQUENCES, rng)
        arena.record(parent, kl)
    return parent


def run(arena: Arena, budgets: Budgets, seed: int, *, limit: float, rule: Rule) -> Plans:
    """Return the winner of one evolution per budget."""
    return {
        bits: evolve(arena, size_bytes, limit, rule, np.random.default_rng([seed, size_bytes]))
        for bits, size_bytes in budgets.items()
    }


fast = partial(run, limit=3e6, rule="size")
full = partial(run, limit=9.83e6, rule="size")
any_size = partial(run, limit=3e6, rule="any")
