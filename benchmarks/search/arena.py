"""The arena: one model, one level store, one pool of search text, one test text; only the plan differs.

Every method asks the same question, `arena.kl(plan, first, count)`: the KL of some sequences of the pool, and pays
tokens x forward passes for it. Plans are judged on test text that no method ever sees.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from space.level import Level
from space.measurement import Measurement
from space.menu import Menu, SearchSpace, build_space
from space.plan import Plan
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest, resolve_model
from workers.tasks import BuildLevels, Calibrate, Evaluate, Teach, Workspace
from workers.text.text_sources import STDLIB, Split
from workers.text.tokens import SPLITS, TextRequest, TokenSet, save_tokens, tokenize
from workers.worker import Worker

BITS = (2, 3, 4, 5, 6, 8)
BUDGET_BITS = (2.25, 2.5, 3.0, 3.5, 4.0, 4.5)
GROUP_SIZE = 64
SEQUENCE_LENGTH = 256
NUM_CALIBRATION = 128
NUM_POOL = 256
NUM_TEST = 256
NUM_SEARCH = 64
"""sequences of the pool that a full measurement of the search takes"""
PLAIN_MENU = Menu(bits=BITS, group_sizes=(GROUP_SIZE,), sparsities=(0.0,), ranks=(0,), kinds=("integer",))


@dataclass(frozen=True, slots=True)
class Traced:
    """One full measurement of a method: what it had spent by then, and what it found."""

    token_forwards: float
    size_bytes: int
    kl_divergence: float


@dataclass
class Arena:
    """A level store with a meter.

    Attributes:
        folder: cache; shared by all methods and seeds.
        seed: order of the pool; a method's first sequences differ with it.
        menu: levels to choose from.
        model: the model's name or folder.
        token_forwards: what has been paid since the last reset.
        trace: full measurements since then.

    """

    folder: Path
    seed: int = 0
    menu: Menu = PLAIN_MENU
    model: str = "bundled"
    token_forwards: float = 0.0
    trace: list[Traced] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read the model and make the text; nothing is computed yet."""
        torch.set_num_threads(1)
        self.model_folder = resolve_model(self.model, None)
        self.inventory = inspect_model(self.model_folder)
        digest_ = model_digest(self.model_folder)
        self.workspace = Workspace(str(self.model_folder), str(self.folder / digest_[:16]), digest_, self.inventory)
        self.worker = Worker(self.workspace)
        self.tokens = self._make_tokens()

    def _make_tokens(self) -> TokenSet:
        """Return calibration, pool (in the seed's order) and test sequences as one token set."""
        request = TextRequest(STDLIB, SEQUENCE_LENGTH, NUM_CALIBRATION, NUM_POOL, NUM_TEST, 0)
        base = tokenize(self.model_folder, request, self.folder)
        order = torch.from_numpy(np.random.default_rng(self.seed).permutation(NUM_POOL))
        chosen: dict[Split, Tensor] = {split: base.load(split) for split in SPLITS}
        chosen["search"] = chosen["search"][order]
        return save_tokens(chosen, self.folder, f"{base.note}; pool in the order of seed {self.seed}")

    @cached_property
    def space(self) -> SearchSpace:
        """Return the levels that may be chosen, dominated ones dropped."""
        return self._built[0]

    @property
    def errors(self) -> Mapping[str, Mapping[Level, float]]:
        """Return module name -> level -> calibrated relative output error."""
        return self._built[1]

    @cached_property
    def _built(self) -> tuple[SearchSpace, Mapping[str, Mapping[Level, float]]]:
        full = build_space(self.inventory, self.menu, "packed", ())
        self.worker.run(Calibrate(self.tokens))
        errors: dict[str, dict[Level, float]] = {}
        for name, sizes in full.sizes.items():
            required = tuple(dict.fromkeys(plan[name] for _, plan in full.uniform_plans()))
            records = self.worker.run(BuildLevels(self.tokens, name, tuple(sizes.items()), required))
            errors[name] = {r.level: r.output_error for r in records}
        return full.restricted({name: list(levels) for name, levels in errors.items()}), errors

    @cached_property
    def budgets(self) -> Mapping[float, int]:
        """Return bits -> weight bytes: those of the plain menu's uniform plans, in proportion between two of them."""
        plain = build_space(self.inventory, PLAIN_MENU, "packed", ())
        sizes = {level.bits or 16: plain.weight_bytes(plan) for level, plan in plain.uniform_plans()}
        found = {}
        for bits in BUDGET_BITS:
            low, share = int(bits), bits - int(bits)
            found[bits] = int(sizes[low] + share * (sizes[low + 1] - sizes[low])) if share else sizes[low]
        return found

    def reset(self) -> None:
        """Start the meter again."""
        self.token_forwards, self.trace = 0.0, []

    def pay(self, token_forwards: float) -> None:
        """Count work that is no measurement: a gradient pass counts three forwards per token."""
        self.token_forwards += token_forwards

    def kl(self, plan: Plan, first: int = 0, count: int = NUM_SEARCH) -> np.ndarray:
        """Return the (count,) KL of pool sequences `first` and on, wrapping at the end, and pay for them.

        A worker does not run blocks again that the plan shares with the one before: it saves time, not payment.
        """
        parts = []
        while count > 0:
            now = min(count, NUM_POOL - first)
            parts.append(self._evaluate(plan, "search", first, now).sequence_kl)
            count, first = count - now, 0
        found = np.concatenate(parts)
        self.token_forwards += len(found) * SEQUENCE_LENGTH
        return found

    def measure(self, plan: Plan, count: int = NUM_SEARCH) -> float:
        """Return the mean KL of the first `count` pool sequences, pay, and leave a trace."""
        kl = float(self.kl(plan, count=count).mean())
        self.record(plan, kl)
        return kl

    def record(self, plan: Plan, kl: float) -> None:
        """Leave a trace of a plan that the method knows now, with the KL it believes in."""
        self.trace.append(Traced(self.token_forwards, self.space.weight_bytes(plan), kl))

    def judge(self, plan: Plan) -> Measurement:
        """Return the measurement on test text: the benchmark's own, not paid for by anybody."""
        return self._evaluate(plan, "held_out", 0, NUM_TEST)

    def _evaluate(self, plan: Plan, split: Split, first: int, count: int) -> Measurement:
        self.teach(split)
        task = Evaluate(self.tokens, plan, split, count, first)
        measurement: Measurement = self.worker.run(task)
        return measurement

    def teach(self, split: Split) -> None:
        """Compute the dense model's answers on a split, once."""
        if not self.worker.teacher_path(self.tokens, split).exists():
            self.worker.run(Teach(self.tokens, split))


def default_folder() -> Path:
    """Return where arenas keep levels and teacher answers."""
    return Path.home() / ".cache" / "tightfit-benchmarks" / "search"


def seconds_since(started: float) -> float:
    """Return rounded seconds since a monotonic time."""
    return round(time.monotonic() - started, 1)
