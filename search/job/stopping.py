"""When to stop: trials, minutes, or a hypervolume that no longer grows."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf


@dataclass(slots=True)
class StopRule:
    """Any of the limits ends the search; the reason is a sentence for the user.

    Attributes:
        max_trials: measured trials, probes included.
        max_minutes: time since the rule was made; None has no limit.
        patience: refinement rounds without growth of the hypervolume.
        clock: seconds; replaced in tests.

    """

    max_trials: int
    max_minutes: float | None = None
    patience: int = 2
    min_growth: float = 1e-3
    clock: Callable[[], float] = time.monotonic
    _started: float = field(init=False)
    _best: float = field(default=0.0, init=False)
    _flat_rounds: int = field(default=0, init=False)
    _begun: tuple[float, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Start the clock."""
        self._started = self.clock()

    def note_batch(self, hypervolume: float, *, is_refinement: bool) -> None:
        """Take note of the hypervolume after a batch; only refinement rounds can count as flat."""
        if hypervolume > self._best + self.min_growth:
            self._flat_rounds = 0
        elif is_refinement:
            self._flat_rounds += 1
        self._best = max(self._best, hypervolume)

    @property
    def seconds_left(self) -> float:
        """Return what the minutes leave, negative once they are over; infinite without a limit."""
        return inf if self.max_minutes is None else self._started + 60 * self.max_minutes - self.clock()

    def trials_left(self, num_trials: int) -> int:
        """Return how many more trials the limits allow: all that were asked, or what the minutes leave at this pace.

        The pace is that since this was first called, with the trials that were done then.
        """
        left = self.max_trials - num_trials
        began, done_before = self._begun = self._begun or (self.clock(), num_trials)
        if self.max_minutes is None or num_trials == done_before:
            return left
        seconds = (self.clock() - began) / (num_trials - done_before)
        return min(left, max(1, int(self.seconds_left / seconds))) if seconds else left

    @property
    def time_is_over(self) -> bool:
        """Tell whether the minutes are over."""
        return self.seconds_left < 0

    @property
    def time_reason(self) -> str:
        """Return the sentence for that."""
        return f"{self.max_minutes:g} minutes are over"

    def reason(self, num_trials: int) -> str | None:
        """Return why to stop now, or None."""
        if num_trials >= self.max_trials:
            return f"{num_trials} trials done, the limit"
        if self.time_is_over:
            return self.time_reason
        if self._flat_rounds >= self.patience:
            return f"the front has not grown for {self._flat_rounds} rounds"
        return None
