"""A thread that delivers items to a place that may be slow, late or gone, so that nobody else ever waits for it."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from threading import Condition, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
MAX_WAITING = 10_000
RETRY_SECONDS = 1.0


class Delivery(Generic[Item]):
    """Delivers items in order; retries with patience, then drops.

    Args:
        deliver: takes one batch; may raise anything.
        joins: whether the second item may travel in the batch of the first.
        on_lost: told the reason, once, when something is dropped.
        patience_seconds: how long after the first failure items are retried; after that each batch is tried once.

    """

    def __init__(
        self,
        deliver: Callable[[Sequence[Item]], None],
        joins: Callable[[Item, Item], bool],
        on_lost: Callable[[str], None],
        patience_seconds: float,
    ) -> None:
        """Start the thread."""
        self._deliver, self._joins, self._on_lost, self._patience = deliver, joins, on_lost, patience_seconds
        self._items: deque[Item] = deque()
        self._changed = Condition()
        self._deadline = float("inf")
        self._failing_since: float | None = None
        self._lost = False
        self._thread = Thread(target=self._run, name="tightfit-delivery", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Queue an item; it is dropped once closed or where too many wait."""
        with self._changed:
            if self._deadline == float("inf") and len(self._items) < MAX_WAITING:
                self._items.append(item)
                self._changed.notify_all()
                return
        self._lose("too much waits for it")

    def close(self, timeout_seconds: float) -> bool:
        """Deliver what waits, for at most this long; return whether every item was delivered."""
        with self._changed:
            self._deadline = min(self._deadline, time.monotonic() + timeout_seconds)
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        if self._thread.is_alive():
            self._lose("it did not answer in time")
        return not self._lost

    def _run(self) -> None:
        while batch := self._take():
            while (reason := self._try(batch)) is not None:
                if self._must_give_up():
                    self._lose(reason)
                    break
                time.sleep(min(RETRY_SECONDS, self._patience))

    def _take(self) -> list[Item]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._deadline < float("inf"))
            batch = [self._items.popleft()] if self._items else []
            while self._items and self._joins(batch[0], self._items[0]):
                batch.append(self._items.popleft())
            return batch

    def _try(self, batch: Sequence[Item]) -> str | None:
        if time.monotonic() >= self._deadline:
            return "it did not answer in time"
        try:
            self._deliver(batch)
        except Exception as error:  # noqa: BLE001 (whatever goes wrong there, nobody here may notice)
            self._failing_since = self._failing_since or time.monotonic()
            return f"{type(error).__name__}: {error}"
        self._failing_since = None
        return None

    def _must_give_up(self) -> bool:
        since = time.monotonic() if self._failing_since is None else self._failing_since
        return time.monotonic() >= min(since + self._patience, self._deadline)

    def _lose(self, reason: str) -> None:
        if not self._lost:
            self._lost = True
            self._on_lost(reason)
