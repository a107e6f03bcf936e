"""Batches of whole searches on the scripted model, for tests of the strategy."""

from collections.abc import Sequence
from functools import cache

from search.decide.observation import (
    SENSITIVITY,
    Observation,
    Proposal,
)
from search.decide.steps import FrontStrategy
from tests.search.scripted import errors_of, observed, prepared, spec

PREPARED = prepared(spec())
SPACE = PREPARED.space
Batches = tuple[tuple[Proposal, ...], ...]


def make_strategy(budget: int = PREPARED.weight_budget, seed: int = 0) -> FrontStrategy:
    return FrontStrategy(SPACE, errors_of(SPACE), budget, seed=seed)


def all_observed(batches: Sequence[Sequence[Proposal]]) -> list[Observation]:
    return [o for batch in batches for o in observed(batch)]


@cache
def history(max_trials: int = 400, budget: int = PREPARED.weight_budget, seed: int = 0, limit: int = 16) -> Batches:
    """Return the batches of a search, until nothing is left or its trials are used up."""
    strategy = make_strategy(budget, seed)
    batches: list[tuple[Proposal, ...]] = []
    while len(batches) < limit and (left := max_trials - sum(map(len, batches))) > 0:
        batch = strategy.next_batch(all_observed(batches), left)
        if not batch:
            break
        batches.append(tuple(batch))
    return tuple(batches)


def points_of(
    batches: Batches,
) -> tuple[list[tuple[Proposal, ...]], list[tuple[Proposal, ...]], list[tuple[Proposal, ...]]]:
    """Return the batches that probe operating points, and those that probe some neighbours on half and on all text."""
    probed = [batch for batch in batches if batch[0].origin == SENSITIVITY][1:]
    whole = [batch for batch in probed if batch[0].num_sequences is None]
    first = [batch for batch in probed if batch[0].plan == batch[0].base and batch not in whole]
    return first, [batch for batch in probed if batch not in first and batch not in whole], whole
