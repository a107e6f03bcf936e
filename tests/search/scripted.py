"""An executor that answers from a formula: additive losses with interactions, no model, no torch, no waiting."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from search.decide.observation import Observation, Proposal
from search.request.prepare import Prepared
from space.budget import parse_budget
from space.cost import key_value_bytes
from space.errors import TightfitError, TrialError
from space.inventory import CacheLayer, Inventory, TensorInfo
from space.level import Level
from space.measurement import Measurement
from space.menu import SearchSpace, build_space
from space.plan import Plan
from space.spec import JobSpec, make_spec
from tests.space.values import module
from workers.pool.executor import Executor, Handle, Outcome
from workers.tasks import (
    AskQuestions,
    BuildLevels,
    Calibrate,
    ChooseDamping,
    CompileLoops,
    Evaluate,
    LevelRecord,
    ModulePrices,
    OwnAnswers,
    PrepareText,
    PriceModules,
    Task,
    Teach,
)
from workers.text.tokens import TokenSet

DENSE_PERPLEXITY = 7.5
SHAPES = {"q_proj": (48, 64), "o_proj": (80, 64), "up_proj": (96, 64), "down_proj": (64, 96)}
NAMES = ("embed_tokens", *(f"layers.{block}.{kind}" for block in range(2) for kind in SHAPES))
COUPLING = 0.3
"""KL that a pair of neighbours adds, over the geometric mean of their shares."""
WEIGHTS = {name: 0.1 * 1.5 ** (5 * i % 13) for i, name in enumerate(NAMES)}


def spec(**values: Any) -> JobSpec:
    """Return a request with a menu that is quick to search."""
    small: dict[str, Any] = {"bits": (2, 3, 4, 8), "group_sizes": (32, 64), "sparsities": (0.0, 0.5), "ranks": (0, 4)}
    small["kinds"] = ("integer",)  # what `output_error` knows
    return make_spec(**{"model": "scripted", "budget": "4.5bpw", "max_trials": 62, **small, **values})


def inventory() -> Inventory:
    """Return an embedding, two blocks of four linear modules, and a norm."""
    modules = [module(NAMES[0], 40, 64, "embedding")]
    modules += [module(name, *SHAPES[name.split(".")[2]], block=int(name.split(".")[1])) for name in NAMES[1:]]
    return Inventory(tuple(modules), (TensorInfo("norm.weight", (64,), "BF16"),), (CacheLayer(2 * 2 * 16 * 2),), 2)


def prepared(request: JobSpec, _: Path | None = None, *, remember: bool = False) -> Prepared:
    """Return what `search.request.prepare` would, for the small model."""
    model = inventory()
    space = build_space(model, request.menu, request.target, request.parsed_pins, request.parsed_plans)
    cache = key_value_bytes(model, request.context, request.batch)
    return Prepared(Path("/scripted"), model, space, parse_budget(request.budget).size_bytes(model), cache)


def output_error(level: Level) -> float:
    """Return the relative output error of a level: less with bits and rank, more with sparsity and wide groups."""
    if level.bits is None:
        return 0.0
    rounding = 4.0**-level.bits * (1 + (level.group_size or 256) / 256)
    return float((rounding + 0.02 * level.sparsity) / (1 + 0.02 * level.rank))


@cache
def share(name: str, level: Level) -> float:
    """Return a module's own part of the loss: a power of its output error, and what no model can know."""
    return float(WEIGHTS[name] * output_error(level) ** 1.1 * random.Random(f"{name} {level}").uniform(0.7, 1.4))


def loss(plan: Plan) -> float:
    """Return the true KL: each module's share, and a little more where neighbours are both coarse."""
    alone = [share(name, level) for name, level in plan.levels]
    return sum(alone) + COUPLING * sum(sqrt(a * b) for a, b in pairwise(alone))


def sketch(plan: Plan, num_sequences: int = 1) -> np.ndarray:
    """Return the (sequences * 2 * modules,) vector whose half mean square is the loss; single changes add up.

    The loss is a quadratic form of the roots of the shares: sqrt(shares) C sqrt(shares), C of ones and of half the
    coupling beside them. With C = L L' the vector is a multiple of L' sqrt(shares), twice: both halves say the same.
    """
    roots = np.sqrt([share(name, level) for name, level in plan.levels])
    beside = np.diag(np.full(len(roots) - 1, COUPLING / 2), 1)
    factor = np.linalg.cholesky(np.eye(len(roots)) + beside + beside.T)
    found: np.ndarray = np.sqrt(2 * len(roots)) * factor.T @ roots
    return np.tile(found, 2 * num_sequences).astype(np.float32)


def sequence_kl(plan: Plan, count: int, spread: float) -> list[float]:
    """Return the KL of sequences, which differ by fixed factors; the mean of 5, 10, ... is the loss."""
    return [loss(plan) * (1 + spread * ((i % 5) - 2) / 2) for i in range(count)]


def observed(proposals: Sequence[Proposal]) -> list[Observation]:
    """Return what a job would observe of proposals; probes come with sketches."""
    found = []
    for p in proposals:
        kl = tuple(sequence_kl(p.plan, 32, 0.2)[: p.num_sequences])
        found.append(Observation(p.plan, p.origin, kl, p.base, sketch(p.plan, len(kl)) if p.base is not None else None))
    return found


def module_prices() -> ModulePrices:
    """Return what a gradient pass would say: prices that are near the truth, not at it."""
    return ModulePrices(
        tuple((name, WEIGHTS[name] * random.Random(name).uniform(0.8, 1.25)) for name in NAMES), 640.0, 0.5
    )


def errors_of(space: SearchSpace) -> dict[str, dict[Level, float]]:
    """Return the output error of every level of a space."""
    return {name: {level: output_error(level) for level in levels} for name, levels in space.levels.items()}


def measure(task: Evaluate) -> Measurement:
    """Return a measurement: sequences differ by fixed factors, a little more on held-out text."""
    count = {"search": 32, "held_out": 64, "calibration": 1}[task.split]
    spread = {"search": 0.2, "held_out": 0.25, "calibration": 0.0}[task.split]
    kl = sequence_kl(task.plan, count, spread)[task.first_sequence :][: task.num_sequences]
    found = Measurement.of_sequences(kl, [2.0 + k for k in kl], 31, 32.0 * len(kl), 0.0)
    return replace(found, sketch=sketch(task.plan, len(kl))) if task.sketch else found


def no_failure(_: Evaluate) -> bool:
    """Let every evaluation succeed."""
    return False


@dataclass
class ScriptedExecutor:
    """Answers tasks in any order.

    Attributes:
        order: "first" come, first served; "last"; or "random".
        fails: which evaluations fail.
        on_evaluate: called before each evaluation with their number so far.
        evaluated: every evaluation that was answered with a measurement or an error.
        built: every question for a module's levels.
        priced: every gradient pass.
        tokens_path: the file of the text.

    """

    order: str = "first"
    fails: Callable[[Evaluate], bool] = no_failure
    on_evaluate: Callable[[int], None] = lambda _: None
    num_workers: int = 50
    evaluated: list[Evaluate] = field(default_factory=list)
    built: list[BuildLevels] = field(default_factory=list)
    priced: list[PriceModules] = field(default_factory=list)
    tokens_path: str = "/scripted/tokens"
    digests: tuple[str, ...] = ("a", "b", "c")
    closed: bool = False
    _queue: list[tuple[Handle, Task]] = field(default_factory=list)
    _count: int = 0
    _rng: random.Random = field(default_factory=lambda: random.Random(1))

    def submit(self, task: Task) -> Handle:
        """Queue a task."""
        handle = Handle(self._count)
        self._count += 1
        self._queue.append((handle, task))
        return handle

    def submit_all(self, tasks: Sequence[Task], lane: int = 0) -> Sequence[Handle]:
        """Queue tasks."""
        return [self.submit(task) for task in tasks]

    def wait(self, timeout_seconds: float) -> Sequence[Outcome]:
        """Answer one task."""
        if not self._queue:
            return []
        last = len(self._queue) - 1
        index = {"first": 0, "last": last, "random": self._rng.randint(0, last)}[self.order]
        handle, task = self._queue.pop(index)
        try:
            return [Outcome(handle, self._answer(task))]
        except TightfitError as error:
            return [Outcome(handle, error=error)]

    def close(self) -> None:
        """Drop what is queued."""
        self._queue.clear()
        self.closed = True

    @property
    def searched(self) -> list[Evaluate]:
        """Return the evaluations on search text."""
        return [task for task in self.evaluated if task.split == "search"]

    def _answer(self, task: Task) -> object:
        if isinstance(task, PrepareText):
            return TokenSet(self.tokens_path, "scripted text", self.digests)
        if isinstance(task, Calibrate | ChooseDamping | CompileLoops | Teach):
            return DENSE_PERPLEXITY if isinstance(task, Teach) else None
        if isinstance(task, BuildLevels):
            self.built.append(task)
            return records(task)
        if isinstance(task, PriceModules):
            self.priced.append(task)
            return module_prices()
        if isinstance(task, AskQuestions):
            return OwnAnswers(tuple("0" for _ in task.questions), tuple(q.right == 0 for q in task.questions), 1.0)
        self.on_evaluate(len(self.evaluated))
        self.evaluated.append(task)
        if self.fails(task):
            raise TrialError(f"scripted failure of {task.plan.digest[:8]}")
        return measure(task)


def records(task: BuildLevels) -> tuple[LevelRecord, ...]:
    """Return the useful levels of a module, by bytes."""
    kept, best = [], float("inf")
    for level, size in sorted(task.sizes, key=lambda item: (item[1], output_error(item[0]), str(item[0]))):
        if output_error(level) < best or level in task.required:
            kept.append(LevelRecord(level, size, output_error(level)))
        best = min(best, output_error(level))
    return tuple(kept)


_: type[Executor] = ScriptedExecutor
