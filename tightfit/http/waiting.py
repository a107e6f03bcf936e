"""Slow verbs in threads, a few at a time: who waits for a turn holds no thread, so that reads go on."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
_NUM_SLOW = 8
_limits: RunVar[CapacityLimiter] = RunVar("tightfit-slow-verbs")


async def in_turn(verb: Callable[..., T], *values: object) -> T:
    """Return what a verb returns that may take seconds; it runs in a thread once it is its turn."""
    try:
        limit = _limits.get()
    except LookupError:
        limit = CapacityLimiter(_NUM_SLOW)
        _limits.set(limit)
    return await to_thread.run_sync(lambda: verb(*values), limiter=limit)
