"""Which evaluations go to a worker together, and in which order: sorted by their levels in forward order.

A worker starts each plan at the first block that it does not share with the one before (see
`workers/run/kept_outputs.py`); sorted, every block is run once for all plans that agree up to it. Each worker has a
stretch of that order for its own, as long as it has not to help another one, so that few blocks are entered by several
workers.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter

from workers.tasks import Evaluate

_MAX_TASKS = 16
_MAX_SECONDS = 20.0  # of one batch: so long it still runs when the job's time is over
_END = 1 / 8  # of a forward, about: the head, and the comparison with the dense model
_SHARE = 0.5  # each batch is half of what is left of a worker's stretch: large ones first, small ones to end together


@dataclass(frozen=True, slots=True)
class Batch:
    """Tasks that one worker does.

    Attributes:
        indices: of the tasks, in the order of doing.
        lane: whose stretch of the sorted order they are from: batches of one lane follow each other.

    """

    indices: tuple[int, ...]
    lane: int = 0


def in_batches(tasks: Sequence[Evaluate], num_workers: int, task_seconds: float) -> list[Batch]:
    """Return the tasks sorted and cut into batches, by when a worker that does only its own lane comes to them.

    Args:
        tasks: what to measure.
        num_workers: who share them; their stretches cost the same.
        task_seconds: what one takes, about.

    """
    most = max(1, min(_MAX_TASKS, int(_MAX_SECONDS / max(task_seconds, 0.1))))
    stretches = enumerate(_stretches(tasks, num_workers))
    batches = [begun for lane, stretch in stretches for begun in _cut(tasks, stretch, lane, most)]
    return [batch for _, batch in sorted(batches, key=itemgetter(0))]


def _stretches(tasks: Sequence[Evaluate], count: int) -> list[list[int]]:
    """Return the sorted order in pieces that cost the same, each from its dearer end on: the last ones cost waiting."""
    order = sorted(range(len(tasks)), key=lambda index: _key(tasks[index]))
    costs = _costs(tasks, order)
    cost_of, total = dict(zip(order, costs, strict=True)), sum(costs)
    found: list[list[int]] = [[] for _ in range(count)]
    for index, end in zip(order, accumulate(costs), strict=True):
        found[int((end - cost_of[index] / 2) / total * count)].append(index)
    return [piece[::-1] if piece and cost_of[piece[0]] < cost_of[piece[-1]] else piece for piece in found]


def _cut(tasks: Sequence[Evaluate], stretch: Sequence[int], lane: int, most: int) -> list[tuple[float, Batch]]:
    """Return the batches of a lane, each with what the ones before it cost."""
    costs = _costs(tasks, stretch)
    batches, done, left, start = [], 0.0, sum(costs), 0
    while start < len(stretch):
        count = _count(costs[start : start + most], left * _SHARE)
        batches.append((done, Batch(tuple(stretch[start : start + count]), lane)))
        cost = sum(costs[start : start + count])
        done, left, start = done + cost, left - cost, start + count
    return batches


def _count(costs: Sequence[float], limit: float) -> int:
    """Return how many of the first costs are within a limit together; one at least."""
    return max(1, bisect_right(list(accumulate(costs)), limit))


def _key(task: Evaluate) -> tuple[str, int, int, tuple[str, ...]]:
    return task.split, task.first_sequence, task.num_sequences or 0, task.plan.texts


def _costs(tasks: Sequence[Evaluate], order: Sequence[int]) -> list[float]:
    """Return what each task costs a worker that does them in an order, in modules that it passes."""
    return [_cost(tasks[index], tasks[before]) for before, index in zip([*order[:1], *order], order, strict=False)]


def _cost(task: Evaluate, before: Evaluate) -> float:
    """Return what a task costs a worker that did another one before, all modules from the first that differs on."""
    *text, levels = _key(task)
    *text_before, levels_before = _key(before)
    is_same = text == text_before
    changes = (index for index, pair in enumerate(zip(levels, levels_before, strict=True)) if pair[0] != pair[1])
    return len(levels) * (1 + _END) - (next(changes, 0) if is_same else 0)
