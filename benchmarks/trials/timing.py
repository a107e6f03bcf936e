"""Timing on a machine that is not idle: CPU time of this thread, both sides in turn, medians of ratios."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds that work takes in this thread."""
    started = time.thread_time()
    work()
    return time.thread_time() - started


def paired(ours: Callable[[int], object], theirs: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Return the CPU seconds of both sides, run in turn; one round before the first is not counted."""
    first, second = [], []
    for turn in range(-1, rounds):
        seconds = cpu_seconds(theirs), cpu_seconds(lambda turn=turn: ours(turn))  # type: ignore[misc]
        if turn >= 0:
            second.append(seconds[0])
            first.append(seconds[1])
    return first, second


def ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the paired ratios."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


@dataclass
class Split:
    """Adds up the CPU seconds that functions take, each under a name."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def watching(self, owner: Any, attribute: str, name: str) -> Iterator[None]:
        """Watch a function of an object or module while the context lasts."""
        original = getattr(owner, attribute)

        def watched(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return original(*args, **kwargs)
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - started

        setattr(owner, attribute, watched)
        try:
            yield
        finally:
            setattr(owner, attribute, original)
