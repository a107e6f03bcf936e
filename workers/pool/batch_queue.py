"""Batches that wait, each for the worker that can do it at the least cost."""

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


@dataclass
class WaitingBatches(Generic[Batch]):
    """A queue in which a worker passes by what another one could do with less work, as long as there is other work."""

    _queue: deque[tuple[int, Batch]] = field(default_factory=deque)

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._queue)

    def put(self, lane: int, batch: Batch) -> None:
        """Add a batch behind all others."""
        self._queue.append((lane, batch))

    def put_first(self, lane: int, batch: Batch) -> None:
        """Add a batch that has waited long enough."""
        self._queue.appendleft((lane, batch))

    def take(self, worker: int) -> Batch:
        """Take the first batch of a worker's own lane, or else the first one of any; there must be one."""
        own = next((index for index, (lane, _) in enumerate(self._queue) if lane == worker), 0)
        _, batch = self._queue[own]
        del self._queue[own]
        return batch

    def clear(self) -> None:
        """Drop all."""
        self._queue.clear()
