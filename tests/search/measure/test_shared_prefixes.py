"""Evaluations are sorted as a trie and cut into batches that get smaller towards the end."""

from itertools import pairwise

import pytest

from search.measure.shared_prefixes import in_batches
from space.level import Level
from tests.search.scripted import prepared, spec
from workers.tasks import Evaluate
from workers.text.tokens import TokenSet

TOKENS = TokenSet("/scripted/tokens", "", ("a", "b", "c"))
SPACE = prepared(spec()).space
BASE = SPACE.uniform_plan(Level(8, 64))


def _tasks() -> list[Evaluate]:
    """Return probes of all modules at two levels, in an order that has nothing to do with the model's."""
    plans = [BASE.replace({n: v}) for n, levels in sorted(SPACE.levels.items(), reverse=True) for v in levels[:2]]
    return [Evaluate(TOKENS, plan, "search", count) for plan in plans for count in (8, 4)]


@pytest.mark.parametrize("num_workers", [1, 2, 7, 300])
def test_every_task_once(num_workers: int) -> None:
    """Nothing is lost or doubled; each lane ends with a single task, so that nobody waits long for it."""
    tasks = _tasks()
    batches = in_batches(tasks, num_workers, 0.0)
    assert sorted(index for batch in batches for index in batch.indices) == list(range(len(tasks)))
    for lane in range(num_workers):
        sizes = [len(batch.indices) for batch in batches if batch.lane == lane]
        assert sizes[-1:] in ([1], [])
        assert sizes == [] or max(sizes) <= 16


def test_lanes_are_stretches_of_one_order() -> None:
    """Two workers share no beginning of plans but the ones on the path to where the order was cut."""
    tasks, num_workers = _tasks(), 3
    batches = in_batches(tasks, num_workers, 0.0)
    assert [batch.lane for batch in batches[:num_workers]] == list(range(num_workers))
    lanes = [[tasks[i] for b in batches if b.lane == lane for i in b.indices] for lane in range(num_workers)]
    for depth in range(1, len(BASE.levels) + 1):
        beginnings = [{(t.num_sequences, t.plan.levels[:depth]) for t in lane} for lane in lanes]
        assert sum(map(len, beginnings)) - len(set.union(*beginnings)) <= num_workers - 1


def test_probes_of_late_modules_count_less() -> None:
    """What a plan shares with the one before is free: a stretch of late changes holds more plans than one of early."""
    probes = [BASE.replace({n: v}) for n, levels in SPACE.levels.items() for v in levels if v != BASE[n]]
    batches = in_batches([Evaluate(TOKENS, plan, "search", 4) for plan in probes], 2, 0.0)
    early, late = (sum(len(b.indices) for b in batches if b.lane == lane) for lane in (0, 1))
    assert early + late == len(probes)
    assert abs(early - late) > len(probes) // 10


def test_neighbours_share_their_first_blocks() -> None:
    """In the sorted order equal beginnings follow each other: each beginning is entered once."""
    tasks = _tasks()
    order = [tasks[index] for batch in in_batches(tasks, 1, 0.0) for index in batch.indices]
    assert [task.num_sequences for task in order] == sorted(task.num_sequences or 0 for task in order)
    for depth in range(1, len(BASE.levels) + 1):
        beginnings = [(t.num_sequences, t.plan.levels[:depth]) for t in order]
        assert sum(a != b for a, b in pairwise(beginnings)) + 1 == len(set(beginnings))


def test_slow_tasks_go_alone() -> None:
    """A batch takes so long as one may wait for at the end."""
    tasks = _tasks()
    assert {len(batch.indices) for batch in in_batches(tasks, 1, 60.0)} == {1}
    assert max(len(batch.indices) for batch in in_batches(tasks, 1, 5.0)) == 4
