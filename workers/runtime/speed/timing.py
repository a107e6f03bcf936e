"""What is measured of a runtime: reading a prompt, and going on one token at a time."""

import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Protocol

from space.plan import Plan


@dataclass(frozen=True, slots=True)
class Course:
    """What is to be run.

    Attributes:
        folder: an export, or a model's folder.
        plan: of the export; that of no modules where it is none.
        prompt: tokens that are read at once, into an empty cache.
        num_tokens: that follow, one at a time.
        threads: of the runtime, on a CPU.
        runs: that count, after one that does not.

    """

    folder: Path
    plan: Plan
    prompt: tuple[int, ...]
    num_tokens: int
    threads: int
    runs: int

    @property
    def num_positions(self) -> int:
        """Return how many tokens a cache must hold."""
        return len(self.prompt) + self.num_tokens

    @property
    def following(self) -> tuple[int, ...]:
        """Return the tokens that follow the prompt: those of it again and again."""
        return tuple(islice(cycle(self.prompt), self.num_tokens))


class Runner(Protocol):
    """A runtime that has loaded a model."""

    def read(self) -> None:
        """Read the prompt into an empty cache, up to the answer to its last token."""
        ...

    def go_on(self) -> None:
        """Read the tokens that follow, one at a time, each up to its answer."""
        ...


@dataclass(frozen=True, slots=True)
class Rate:
    """Tokens per second of wall clock: the median of all runs, the slowest and the fastest."""

    tokens_per_second: float
    slowest: float
    fastest: float


@dataclass(frozen=True, slots=True)
class Speed:
    """What a runtime did: the prompt, and one token at a time."""

    runtime: str
    prefill: Rate
    decode: Rate


def measured(runtime: str, runner: Runner, course: Course) -> Speed:
    """Run a course and return the rates."""
    seconds: list[tuple[float, float]] = []
    for _ in range(course.runs + 1):
        begun = time.perf_counter()
        runner.read()
        read = time.perf_counter()
        runner.go_on()
        seconds.append((read - begun, time.perf_counter() - read))
    prefill, decode = zip(*seconds[1:], strict=True)
    return Speed(runtime, _rate(len(course.prompt), prefill), _rate(course.num_tokens, decode))


def _rate(num_tokens: int, seconds: tuple[float, ...]) -> Rate:
    return Rate(*(num_tokens / some for some in (median(seconds), max(seconds), min(seconds))))
