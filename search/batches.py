"""Which evaluations go to a worker together, and in which order: sorted by their levels in forward order.

A worker starts each plan at the first block that it does not share with the one before (see workers/trails.py); sorted,
every block is run once for all plans that agree up to it.
"""

from collections.abc import Sequence

from workers.tasks import Evaluate

_MAX_TASKS = 16
_MAX_SECONDS = 20.0  # of one batch: so long it still runs when the job's time is over
_SHARES = 2  # each batch is half of a worker's share of what is left: large ones first, and small ones to end together


def in_batches(tasks: Sequence[Evaluate], num_workers: int, task_seconds: float) -> list[list[int]]:
    """Return the indices of the tasks, sorted and cut into batches.

    Args:
        tasks: what to measure.
        num_workers: who share them.
        task_seconds: what one takes, about.

    """
    order = sorted(range(len(tasks)), key=lambda index: _key(tasks[index]))
    most = max(1, min(_MAX_TASKS, int(_MAX_SECONDS / max(task_seconds, 0.1))))
    batches = []
    while order:
        count = min(most, max(1, len(order) // (_SHARES * num_workers)))
        batches.append(order[:count])
        del order[:count]
    return batches


def _key(task: Evaluate) -> tuple[str, int, int, tuple[str, ...]]:
    return task.split, task.first_sequence, task.num_sequences or 0, task.plan.texts
