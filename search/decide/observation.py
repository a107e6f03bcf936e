"""What is asked of the workers and what came back: the whole input and output of a search's steps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from space.plan import Plan

UNIFORM, SENSITIVITY, KNAPSACK = "uniform", "sensitivity", "knapsack"
RACE_STEP = 4
"""Sequences that workers measure together: what starts at a multiple of it rounds as in a whole."""
EXCHANGE, SCREEN, REFINE, KNOWN = "exchange", "screen", "refine", "known"


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan to measure.

    Attributes:
        plan: the plan.
        origin: which step proposes it.
        num_sequences: only the first so many sequences; None is the whole text.
        base: for probes, the plan that it is a neighbour of; it shares its first blocks.

    """

    plan: Plan
    origin: str
    num_sequences: int | None = None
    base: Plan | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """A measured proposal.

    Attributes:
        plan: the plan.
        origin: which step proposed it.
        sequence_kl: KL of each measured sequence; any two observations share their first sequences.
        base: for probes, the plan that it is a neighbour of.
        sketch: for probes, how the plan changes the answers (see workers/evaluate/sketch.py), where it is known.
        weight_bytes: of the plan, where they are known already.

    """

    plan: Plan
    origin: str
    sequence_kl: tuple[float, ...]
    base: Plan | None = None
    sketch: np.ndarray | None = None
    weight_bytes: int | None = None

    @property
    def kl_divergence(self) -> float:
        """Return the mean KL."""
        return sum(self.sequence_kl) / len(self.sequence_kl)


def distinct(proposals: Sequence[Proposal], is_known: Callable[[Plan], bool] = lambda _: False) -> list[Proposal]:
    """Return the proposals of plans that are not known, of equal plans the first one."""
    kept = {p.plan.digest: p for p in reversed(proposals)}
    return [p for p in proposals if kept[p.plan.digest] is p and not is_known(p.plan)]
