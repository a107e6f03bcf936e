"""Evaluations are sorted as a trie and cut into batches that get smaller towards the end."""

from itertools import pairwise

import pytest

from search.batches import in_batches
from space.level import Level
from tests.search.scripted import prepared, spec
from workers.models.tokens import TokenSet
from workers.tasks import Evaluate

TOKENS = TokenSet("/scripted/tokens", "", ("a", "b", "c"))
SPACE = prepared(spec()).space
BASE = SPACE.uniform_plan(Level(8, 64))


def _tasks() -> list[Evaluate]:
    """Return probes of all modules at two levels, in an order that has nothing to do with the model's."""
    plans = [BASE.replace({n: v}) for n, levels in sorted(SPACE.levels.items(), reverse=True) for v in levels[:2]]
    return [Evaluate(TOKENS, plan, "search", count) for plan in plans for count in (8, 4)]


@pytest.mark.parametrize("num_workers", [1, 2, 7, 300])
def test_every_task_once(num_workers: int) -> None:
    """Nothing is lost or doubled; the largest batches come first, and the last ones are single tasks."""
    tasks = _tasks()
    batches = in_batches(tasks, num_workers, 0.0)
    assert sorted(index for batch in batches for index in batch) == list(range(len(tasks)))
    sizes = [len(batch) for batch in batches]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 1


def test_neighbours_share_their_first_blocks() -> None:
    """In the sorted order equal beginnings follow each other: each beginning is entered once."""
    tasks = _tasks()
    order = [tasks[index] for batch in in_batches(tasks, 1, 0.0) for index in batch]
    assert [task.num_sequences for task in order] == sorted(task.num_sequences or 0 for task in order)
    for depth in range(1, len(BASE.levels) + 1):
        beginnings = [(t.num_sequences, t.plan.levels[:depth]) for t in order]
        assert sum(a != b for a, b in pairwise(beginnings)) + 1 == len(set(beginnings))


def test_slow_tasks_go_alone() -> None:
    """A batch takes so long as one may wait for at the end."""
    tasks = _tasks()
    assert {len(batch) for batch in in_batches(tasks, 1, 60.0)} == {1}
    assert max(len(batch) for batch in in_batches(tasks, 1, 5.0)) == 4
