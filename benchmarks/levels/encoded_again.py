"""Trellises encoded again: is it worth more to train their weights, and to encode these, than to train scales alone?

    python -m benchmarks.levels.encoded_again [--budgets 2.25 2.5] [--minutes M] [--rounds 2] [--folder DIR]
                                              [--out FILE]

The refitted plans of rotated trellises of `benchmarks/levels/recovery.py`, and its text. A round trains all weights
freely, beside scales, norms and biases, for M minutes of one core from where the plan is; encodes what came of it with
the statistics of that model; and trains scales for M minutes. Beside it scales alone, for as long as all rounds take
together. Selection text decides which step of a training counts, judging text tells the KL.
"""

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.levels.recovery import judged, lesson_of
from benchmarks.levels.refit import ALLOCATIONS, make_plan, texts
from benchmarks.levels.run import ROOT
from benchmarks.search.arena import Arena, default_folder
from space.cost import module_bytes
from space.digest import digest
from space.level import Level
from space.plan import Plan
from workers.kernels.kernel import Tensors
from workers.recover.distill import Course
from workers.recover.recovered_folder import recovered_folder
from workers.recover.recovery import Values, recover_if_better
from workers.recover.recovery_table import RECOVERIES
from workers.recover.sharded.assignment import Assignment, distillation
from workers.recover.sharded.crew import ALONE
from workers.recover.trainable_model import scaled_weight
from workers.recover.trained_weights import ScaledWeight
from workers.tasks import BuildLevels, Calibrate, Teach
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "encoded_again.json"
_PACE = 1.0  # of the size of a weight's values, which a change is in units of
_COURSE = Course(steps=480, learning_rate=1e-3)


class FreeWeight(ScaledWeight):
    """Values that move freely, times trained scales."""

    def __init__(self, tensors: Tensors, level: Level, dense: Tensor) -> None:
        """Begin at the stored values."""
        super().__init__(tensors, level, dense.shape[1])
        self._pace = _PACE * float(self.values.square().mean().sqrt())
        self.moved = torch.nn.Parameter(torch.zeros_like(self.values))

    def forward(self, _: Tensor | None = None) -> Tensor:
        """Return the (O, I) weight."""
        return self.scaled(self.values + self._pace * self.moved)


def free_weight(tensors: Tensors, level: Level, dense: Tensor) -> Any:
    """Return a trellis that moves freely; of another coding its scales alone."""
    make = FreeWeight if level.coding == "trellis" else scaled_weight
    return make(tensors, level, dense)


@dataclass(frozen=True)
class Round:
    """One plan on its way.

    Attributes:
        arena: model, text and cache.
        plan: of trellises.
        minutes: of each training.
        judges: text that tells.

    """

    arena: Arena
    plan: Plan
    minutes: float
    judges: Any

    def kl(self, values: Values) -> float:
        """Return the KL on judging text."""
        return float(judged(self.arena, self.plan, values, self.judges).kl_divergence)

    def encoded_again(self, start: Values, number: int) -> tuple[Values, float]:
        """Return values whose weights were trained and encoded, and the selection KL before they were encoded."""
        free, kl = self._trained(start, number)
        name = digest([start.tokens.of("calibration"), "encoded again", number, self.minutes, asdict(_COURSE)])
        cache = Path(self.arena.workspace.cache_folder)
        folder = recovered_folder(Path(start.model_folder), cache, name, free)
        named = replace(start.tokens, digests=(name, *start.tokens.digests[1:]))
        worker = Worker(replace(self.arena.workspace, model_folder=str(folder)))
        worker.run(Calibrate(named))
        for module in self.arena.inventory.modules:
            level = self.plan[module.name]
            worker.run(BuildLevels(named, module.name, ((level, module_bytes(module, level)),), (level,)))
        return Values(named, str(folder)), kl

    def _trained(self, start: Values, number: int) -> tuple[Mapping[str, Tensor], float]:
        """Return name -> stored value of all that was trained, weights whole."""
        lesson = lesson_of(self.arena, self.plan, start, 0, self.minutes)
        assert lesson.text is not None  # noqa: S101 (it has one)
        text = lesson.text()
        state = Path(self.arena.workspace.cache_folder) / "recovering" / f"free-{self.plan.digest[:8]}-{number}.state"
        training = distillation(
            Assignment(
                workspace=self.arena.workspace,
                plan=self.plan,
                start=start,
                text=text.tokens,
                answers=(text.answers("calibration"), text.answers("search")),
                course=replace(_COURSE, max_seconds=60 * self.minutes),
                make=free_weight,
                state_path=state,
                sharding="none",
                recomputes=False,
            ),
            ALONE,
        )
        learned, model = training.run(), training.model
        state.unlink(missing_ok=True)
        stored = {module.name: module.weight for module in self.arena.inventory.modules}
        with torch.no_grad():
            weights = {stored[n].name: w().to(_TYPES[stored[n].dtype]) for n, w in model.weights.items()}
        others = {name: value.stored() for name, value in model.others.items()}
        return weights | others, min(judged.selection_kl for judged in learned.judged)

    def scales(self, start: Values, minutes: float) -> Values:
        """Return values whose scales were trained, kept where they are better."""
        lesson = lesson_of(self.arena, self.plan, start, 0, minutes)
        return recover_if_better(RECOVERIES["scales"], lesson).values


_TYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}


def measure(course: Round, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each step of a plan."""
    started = time.process_time()

    def row(step: str, values: Values, **more: Any) -> dict[str, Any]:
        spent = round((time.process_time() - started) / 60, 1)
        return {"step": step, "kl_divergence": course.kl(values), "core_minutes": spent, **more}

    dense = Values(texts(course.arena)[0], str(course.arena.model_folder))
    first = recover_if_better(RECOVERIES["refit"], lesson_of(course.arena, course.plan, dense, 0, None)).values
    yield row("refit", first)
    yield row("scales alone", course.scales(first, 2 * rounds * course.minutes))
    now = first
    for number in range(1, rounds + 1):
        now, kl = course.encoded_again(now, number)
        yield row(f"encoded again, {number}", now, selection_kl_before=kl)
        now = course.scales(now, course.minutes)
        yield row(f"and scales, {number}", now)


def main() -> None:
    """Measure, print and write, row after row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", nargs="+", type=float, default=[2.25, 2.5])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    arena, rows = Arena(options.folder), list[dict[str, Any]]()
    arena.worker.run(Calibrate(arena.tokens))
    _, judges = texts(arena)
    arena.worker.run(Teach(judges, "held_out"))
    allocations = json.loads(ALLOCATIONS.read_text(encoding="utf-8"))
    for budget in options.budgets:
        plan = make_plan(allocations[str(budget)], "trellis", frozenset(), 0)
        for module in arena.inventory.modules:
            level = plan[module.name]
            arena.worker.run(BuildLevels(arena.tokens, module.name, ((level, module_bytes(module, level)),), (level,)))
        for row in measure(Round(arena, plan, options.minutes, judges), options.rounds):
            rows.append({"budget": budget, **row})
            print(rows[-1], flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
