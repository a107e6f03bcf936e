"""How long a job will take: its plan of phases, corrected by how long its phases take in fact."""

import time
from collections.abc import Callable, Mapping

from search.progress.phases import PHASES, SEARCH

_TRUST = 5.0  # a fifth of a phase, measured, tells its rest; before, the plan counts too
_MORE = 0.25  # of the time that was waited in vain for a phase's first step: how much longer it will be
_PRIOR = 0.01  # of the plan's time: with how much weight it says that this machine is as fast as planned


class Forecast:
    """Told which phase a job is in and how much of it is done, says how much time is left."""

    def __init__(
        self,
        expected: Mapping[str, float],
        max_search_seconds: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin before the first phase.

        Args:
            expected: phase -> seconds.
            max_search_seconds: since now, after which no search goes on.
            clock: seconds.

        """
        self._expected, self._clock = dict(expected), clock
        self._started = self._entered = self._advanced = clock()
        self._search_ends = None if max_search_seconds is None else self._started + max_search_seconds
        self._begun, self._phase, self._first_share, self._share = False, 0, 0.0, 0.0
        self._took, self._planned = 0.0, 0.0  # by phases that have ended

    @property
    def elapsed_seconds(self) -> float:
        """Return the time since the job began to run."""
        return self._clock() - self._started

    def enter(self, phase: str, share: float = 0.0, expected: float | None = None) -> None:
        """Take note that a phase begins, with a share that is done already; what it takes may be known better now."""
        if self._begun:  # what was known and left out tells nothing about this machine
            self._took += self._clock() - self._entered
            self._planned += self._expected[PHASES[self._phase]] * (1 - self._first_share)
        self._begun, self._phase, self._entered = True, PHASES.index(phase), self._clock()
        self._advanced, self._first_share, self._share = self._entered, share, share
        if expected is not None:
            self._expected[phase] = expected

    def advance(self, share: float) -> None:
        """Take note of how much of the phase is done, 0 to 1."""
        if share > self._share:
            self._share, self._advanced = min(share, 1.0), self._clock()

    def seconds_left(self) -> float:
        """Return the time until the job is done."""
        now, left = self._clock(), 0.0
        for index in range(self._phase, len(PHASES)):
            phase = PHASES[index]
            more = self._left_here() if index == self._phase else self._speed() * self._expected[phase]
            if phase == SEARCH and self._search_ends is not None:
                more = min(more, max(0.0, self._search_ends - now - left))
            left += more
        return left

    def _left_here(self) -> float:
        """Return what is left of the phase: by its plan at first, then by how fast it goes."""
        if self._share >= 1:
            return 0.0
        done, now = self._share - self._first_share, self._clock()
        planned = self._speed() * self._expected[PHASES[self._phase]] * (1 - self._share)
        if done <= 0:
            waited = now - self._advanced
            return max(planned - waited, _MORE * waited)
        measured = (self._advanced - self._entered) * (1 - self._share) / done
        trust = min(1.0, _TRUST * done / (1 - self._first_share))
        return max(0.0, trust * measured + (1 - trust) * planned - (now - self._advanced))

    def _speed(self) -> float:
        """Return how many seconds a planned one takes, by all that has been done, and by what takes longer already."""
        whole = self._expected[PHASES[self._phase]] * (1 - self._first_share)
        here = self._expected[PHASES[self._phase]] * (self._share - self._first_share)
        took = self._took + (self._advanced - self._entered if here else 0.0)
        prior = _PRIOR * sum(self._expected.values())
        if prior == 0:
            return 1.0
        late = (self._took + self._clock() - self._entered + prior) / (self._planned + whole + prior)
        return max(late if self._begun else 0.0, (took + prior) / (self._planned + here + prior))
