"""Distillation: what a compressed model has to train is trained towards the answers of the dense model.

Adam in float32 on batches in an order that the seed and the step alone decide, with a learning rate that warms up and
then falls along a cosine. The KL divergence on selection text decides which step is kept, and when to stop; a state is
written every so many seconds, and a run that goes on from it ends in the same weights as one that never stopped.

Shape legend: B sequences, T tokens.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from workers.evaluate.teacher import Taught
from workers.model_inputs import Samples
from workers.recover.sharded.crew import ALONE, Crew, MakeOptimizer
from workers.recover.trainable_model import TrainableModel
from workers.recover.training_state import Judged, TrainingState, read_state, write_state

_BETAS = (0.9, 0.95)
_DIVERGED = 1.5  # times the KL at the start
_LEAST_STEPS = 8


def adam(parameters: list[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Return the optimizer of recoveries."""
    return torch.optim.Adam(parameters, lr=lr, betas=_BETAS)


@dataclass(frozen=True, slots=True)
class Course:
    """How long and how fast is trained.

    Attributes:
        steps: at most.
        batch: sequences of a step.
        learning_rate: its highest; each change is in units of what is changed.
        warmup: steps in which it rises.
        judge_every: steps between two looks at the selection text.
        patience: looks without a better one, after which training ends. The start is none of them: trained values may
            be worse at first, while the learning rate is high, and fall from look to look.
        seed: of the order of the text.
        max_seconds: of computing, over all runs together; None: as long as the steps take.
        temperature: of both distributions while training.
        hard_labels: the weight of the cross-entropy of the right classes beside the KL; selection is by KL alone.
        checkpoint_seconds: between two states on disk.

    """

    steps: int
    batch: int = 8
    learning_rate: float = 2e-3
    warmup: int = 10
    judge_every: int = 20
    patience: int = 5
    seed: int = 0
    max_seconds: float | None = None
    temperature: float = 1.0
    hard_labels: float = 0.0
    checkpoint_seconds: float = 30.0


def looks_since_best(kls: Sequence[float]) -> int:
    """Return how many looks came after the best of what was trained; the first of them is of the start.

    >>> looks_since_best([1.0, 1.3, 1.2, 1.1]), looks_since_best([1.0, 0.9, 1.1, 1.2]), looks_since_best([1.0])
    (0, 2, 0)
    """
    trained = kls[1:]
    return len(trained) - 1 - trained.index(min(trained)) if trained else 0


@dataclass(frozen=True)
class Lessons:
    """Samples with answers to them, wherever these come from."""

    samples: Samples

    def __len__(self) -> int:
        """Return how many samples."""
        return len(self.samples)

    @property
    def length(self) -> int:
        """Return the tokens of a sample."""
        return self.samples.numel() // len(self)

    def rows(self, indices: Tensor, device: str) -> tuple[Samples, Taught]:
        """Return some samples and the answers to them."""
        raise NotImplementedError


@dataclass(frozen=True)
class TaughtText(Lessons):
    """Samples, and the dense model's answers to them."""

    answers: Taught

    def rows(self, indices: Tensor, device: str) -> tuple[Samples, Taught]:
        """Return some samples and the answers to them."""
        return self.samples[indices].to(device), self.answers.rows(indices, device)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a training came to.

    Attributes:
        judged: the looks at the selection text, the first one before any step.
        steps: that were made.
        kept_step: whose weights were best on the selection text; 0: none was better than the start.
        diverged: the KL rose far beyond where it began, or was no number: training ended there.
        seconds: of computing.

    """

    judged: tuple[Judged, ...]
    steps: int
    kept_step: int
    diverged: bool
    seconds: float


Watch = Callable[[Judged, int, float], None]
"""told a look at the selection text, the steps of the whole course, and the seconds that the rest takes"""


@dataclass(slots=True)
class Distillation:
    """One training; `run` leaves the model at the best step.

    Attributes:
        model: what is trained.
        train: text to learn from.
        selection: text that says when it was best.
        course: how.
        state_path: where its state is kept while it runs.
        look: called after every step; what it raises ends the training, which can be gone on with.
        watch: sees each look at the selection text.
        device: where is computed.
        crew: who trains together.
        make_optimizer: (parameters, lr=...) -> what makes the steps.

    """

    model: TrainableModel
    train: Lessons
    selection: Lessons
    course: Course
    state_path: Path
    look: Callable[[], None] = lambda: None
    watch: Watch = lambda *_: None
    device: str = "cpu"
    crew: Crew = ALONE
    make_optimizer: MakeOptimizer = adam
    _parameters: dict[str, torch.nn.Parameter] = field(init=False)
    _optimizer: torch.optim.Optimizer = field(init=False)
    _order: tuple[int, Tensor] = field(init=False, default=(-1, torch.empty(0)))

    def __post_init__(self) -> None:
        """Make the optimizer."""
        self._parameters = self.model.trained()
        self._optimizer = self.crew.optimizer(self.make_optimizer, self._parameters, self.course.learning_rate)

    def run(self) -> Learned:
        """Train, from the state on disk where there is one, and leave the best weights in the model."""
        state = read_state(self.state_path, self._parameters, self._optimizer, self.crew) or self._begun()
        written = time.monotonic()
        while not self._is_over(state):
            state = self._stepped(state)
            if state.step % self.course.judge_every == 0 or state.step == state.steps:
                state = self._judged(state)
            if self.crew.agreed(time.monotonic() - written) >= self.course.checkpoint_seconds:
                write_state(self.state_path, state, self._parameters, self._optimizer, self.crew)
                written = time.monotonic()
            self.look()
        write_state(self.state_path, state, self._parameters, self._optimizer, self.crew)
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(state.best[name])
        return Learned(state.judged, state.step, state.kept_step, state.diverged, state.seconds)

    def _begun(self) -> TrainingState:
        started, kl = time.process_time(), self._selection_kl()
        state = TrainingState(
            steps=self.course.steps,
            judged=(Judged(0, kl, kl, 0.0, 0.0),),
            best={name: parameter.detach().clone() for name, parameter in self._parameters.items()},
            seconds=self.crew.agreed(time.process_time() - started),
        )
        self.watch(state.judged[0], state.steps, 0.0)
        return state

    def _is_over(self, state: TrainingState) -> bool:
        looks = looks_since_best([judged.selection_kl for judged in state.judged])
        return state.diverged or state.step >= state.steps or looks >= self.course.patience

    def _stepped(self, state: TrainingState) -> TrainingState:
        """Make one step; after the first few it is known how many there is time for."""
        started = time.process_time()
        rate = self._rate(state)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad()
        with torch.enable_grad():
            rows = self.train.rows(self.crew.own(self._batch(state.step)), self.device)
            loss = self.model.loss(*rows, self.course.temperature, self.course.hard_labels)
            loss.backward()
        self.crew.average_gradients(self._parameters)
        self._optimizer.step()
        took, found = self.crew.agreed(time.process_time() - started), self.crew.mean(float(loss.detach()))
        state = replace(
            state, step=state.step + 1, losses=(*state.losses, found), seconds=state.seconds + took, rate=rate
        )
        if not math.isfinite(found):
            return replace(state, diverged=True)
        limit = self.course.max_seconds
        if limit is not None and state.step == _LEAST_STEPS and state.steps > _LEAST_STEPS:
            per_step = state.seconds / _LEAST_STEPS  # the first look at the selection text is in it
            state = replace(state, steps=max(_LEAST_STEPS, min(state.steps, int(limit / per_step))))
        return state

    def _judged(self, state: TrainingState) -> TrainingState:
        started, kl = time.process_time(), self._selection_kl()
        seconds = state.seconds + self.crew.agreed(time.process_time() - started)
        last = state.judged[-1].step
        tokens = (state.step - last) * self.course.batch * self.train.length
        speed = tokens / max(seconds - state.judged_at, 1e-9)
        judged = Judged(state.step, sum(state.losses) / max(1, len(state.losses)), kl, state.rate, speed, seconds)
        state = replace(state, judged=(*state.judged, judged), losses=(), seconds=seconds, judged_at=seconds)
        first, best = state.judged[0].selection_kl, min(j.selection_kl for j in state.judged[:-1])
        if not math.isfinite(kl) or kl > _DIVERGED * first:
            state = replace(state, diverged=True)
        elif kl < best:
            kept = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
            state = replace(state, best=kept, kept_step=state.step)
        self.watch(judged, state.steps, (state.steps - state.step) * seconds / state.step)
        return state

    def _selection_kl(self) -> float:
        count = len(self.selection)
        with torch.no_grad():
            parts = [
                len(some) * self.crew.mean(float(self.model.kl(*self.selection.rows(self.crew.own(some), self.device))))
                for some in torch.arange(count).split(self.course.batch)
            ]
        return sum(parts) / count

    def _rate(self, state: TrainingState) -> float:
        course, step = self.course, state.step
        if step < course.warmup:
            return course.learning_rate * (step + 1) / course.warmup
        share = (step - course.warmup) / max(1, state.steps - course.warmup)
        return course.learning_rate * (0.05 + 0.95 * (1 + math.cos(math.pi * min(1.0, share))) / 2)

    def _batch(self, step: int) -> Tensor:
        """Return which sequences a step takes: each once in an epoch, in an order of its own."""
        count = len(self.train)
        size = min(self.course.batch, count)
        epoch, place = divmod(step, count // size)
        if self._order[0] != epoch:
            generator = torch.Generator().manual_seed(self.course.seed * 1_000_003 + epoch)
            self._order = (epoch, torch.randperm(count, generator=generator))
        return self._order[1][place * size : (place + 1) * size]
