"""What every recovery tells of itself, and how one is tried: its values are kept only where they are better."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from space.errors import SpecError
from space.inventory import Inventory
from space.measurement import Measurement
from space.plan import Plan
from space.results.front import Interval, paired_interval
from workers.devices import Device
from workers.tasks import Evaluate, Teach, Workspace
from workers.text.text_sources import Split
from workers.text.tokens import TokenSet
from workers.worker import Worker

Progress = Callable[[str, float], None]
"""told (how far it is, in words; the share that is done); what it raises ends the recovery"""


def _unheard(_: str, __: float) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Values:
    """Where the values of a point are.

    Attributes:
        tokens: the text, under the name that a level store has its levels by.
        model_folder: the model whose norms, biases and dense weights it has.

    """

    tokens: TokenSet
    model_folder: str


@dataclass(frozen=True, slots=True)
class Text:
    """What a recovery learns from: text of its own splits, and how it is taught there."""

    tokens: TokenSet
    answers: Callable[[Split], Path]


@dataclass(frozen=True, slots=True)
class Lesson:
    """What a recovery is to do.

    Attributes:
        workspace: the dense model and its cache, which holds the point's levels.
        plan: the point's.
        start: its values so far.
        progress: who is told how far it is.
        text: makes what it learns from, where it needs any.
        seed: of what it draws.
        max_seconds: of computing; None: as long as its course takes.
        watch: takes (step, figures) of a learning curve.
        look: called often; what it raises ends the recovery, which can be gone on with.
        processes: of this machine that train together.
        sharding: what they divide, one of `SHARDINGS`.
        checkpointing: blocks keep their inputs alone for the way back, though memory would hold more.
        temperature: of both distributions while training; their KL is multiplied by its square.
        hard_labels: the weight of the cross-entropy of the text's own tokens beside that KL.

    """

    workspace: Workspace
    plan: Plan
    start: Values
    progress: Progress = _unheard
    text: Callable[[], Text] | None = None
    seed: int = 0
    max_seconds: float | None = None
    watch: Callable[[int, Mapping[str, float]], None] = lambda *_: None
    look: Callable[[], None] = lambda: None
    processes: int = 1
    sharding: str = "none"
    checkpointing: bool = False
    temperature: float = 1.0
    hard_labels: float = 0.0

    @property
    def tokens(self) -> TokenSet:
        """Return the text, which also names the levels so far."""
        return self.start.tokens


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a recovery made.

    Attributes:
        values: where the point's values are now.
        figures: what came of its training, as JSON.
        failure: why there is nothing, in one sentence; the values are those of the start then.

    """

    values: Values
    figures: Mapping[str, Any] = field(default_factory=dict)
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """Something that changes the values of a chosen plan's levels, never their bytes.

    Attributes:
        name: as users write it.
        done: what it did, as the rest of a sentence that begins with "The point was".
        can_help: (model, plan) -> whether it would change anything.
        needed_bytes: (model, tokens, device) -> the memory that it takes.
        estimated_seconds: (model, tokens) -> about how long it takes on one core.
        num_tokens: the point's text -> how many tokens it reads, all its passes together.
        fit: makes and stores the new values.
        goes_on: it may begin where another recovery ended; else it begins with what the search measured.

    """

    name: str
    done: str
    can_help: Callable[[Inventory, Plan], bool]
    needed_bytes: Callable[[Inventory, int, Device], int]
    estimated_seconds: Callable[[Inventory, int], float]
    num_tokens: Callable[[TokenSet], int]
    fit: Callable[[Lesson], Fitted]
    goes_on: bool = True

    def check(self, inventory: Inventory, plan: Plan, point: str) -> None:
        """Raise SpecError where it would change nothing of a plan, which is a point's."""
        if not self.can_help(inventory, plan):
            raise SpecError(f"--method {self.name} finds nothing to change in {point}; leave --method out.")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery came to.

    Attributes:
        recovery: which one.
        values: those to export: the new ones if they are kept, else those that it began with.
        before, after: of the plan on held-out text.
        difference_ci95: of the KL after minus that before, paired over sequences.
        kept: whether it helped measurably: that interval lies below zero.
        fitted: what was made.

    """

    recovery: Recovery
    values: Values
    before: Measurement
    after: Measurement
    difference_ci95: Interval
    kept: bool
    fitted: Fitted

    @property
    def kl_before(self) -> float:
        """Return the KL divergence that it began with, on held-out text, in nats per token."""
        return self.before.kl_divergence

    @property
    def kl_after(self) -> float:
        """Return the KL divergence of what was made, likewise."""
        return self.after.kl_divergence


def recover_if_better(recovery: Recovery, lesson: Lesson, before: Measurement | None = None) -> Recovered:
    """Recover a plan, and keep that only where its KL on held-out text is measurably lower.

    Args:
        recovery: which.
        lesson: what it is to do.
        before: what was measured of its start, where that is known.

    """
    Worker(lesson.workspace).run(Teach(lesson.tokens, "held_out"))
    fitted = recovery.fit(lesson)
    before = before or _judged(lesson, lesson.start)
    after = before if fitted.values == lesson.start else _judged(lesson, fitted.values)
    difference = paired_interval(after.sequence_kl, before.sequence_kl)
    kept = difference[1] < 0
    return Recovered(recovery, fitted.values if kept else lesson.start, before, after, difference, kept, fitted)


def _judged(lesson: Lesson, values: Values) -> Measurement:
    """Measure values by a worker of their own: it knows levels by their text, whichever store they are of."""
    worker = Worker(replace(lesson.workspace, model_folder=values.model_folder))
    found: Measurement = worker.run(Evaluate(values.tokens, lesson.plan, "held_out"))
    return found
