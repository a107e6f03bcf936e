"""A step of the check: a random Llama of 1.1 billion parameters: statistics, levels of some modules, trials, memory."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.gpu.figures import Figures, clock_of, figures_of_arguments, peak_bytes
from benchmarks.trials.large import SHAPE, write_model
from space.cost import module_bytes
from space.inventory import Inventory, ModuleInfo
from space.level import Level, parse_level
from space.measurement import Measurement
from space.plan import Plan
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest
from workers.run.memory_limits import needed_bytes
from workers.tasks import BuildLevels, Calibrate, Evaluate, PrepareText, Teach, Workspace
from workers.text.text_sources import STDLIB
from workers.text.tokens import TextRequest, TokenSet
from workers.worker import Worker

SMALL_SHAPE = SHAPE | {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 1, "vocab_size": 9000}
SMALL_SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2}
KINDS = {
    "integer, 2 to 8 bits": ("b2-g64", "b3-g64", "b4-g64", "b8-g64"),
    "half zeros": ("b4-g64-s0.5",),
    "rank 16": ("b3-g64-r16",),
    "rotated trellis, 2 to 4 bits": ("b2-gch-t-h", "b3-gch-t-h", "b4-gch-t-h"),
}
MODULES = ("self_attn.q_proj", "mlp.gate_proj", "mlp.down_proj")
SMALL_KINDS = {"integer, 4 bits": ("b4-g64",), "rotated trellis, 3 bits": ("b3-gch-t-h",)}
_TRIALS, _STREAMED_TRIALS, _CHANGES = 20, 2, 3
_TRIAL_SECONDS = 40.0  # kept for trials when levels are built
_LITTLE = 0.01  # of a GPU: the model does not fit in it


def model_folder(figures: Figures) -> Path:
    """Return the model's folder, written by the first step that needs it."""
    folder = figures.work / "model"
    write_model(folder, SMALL_SHAPE if figures.is_small else SHAPE)
    return folder


def chosen_modules(inventory: Inventory) -> list[ModuleInfo]:
    """Return a few modules of the first block and of a middle one."""
    blocks = sorted({0, inventory.num_blocks // 2})
    return [inventory.module(f"model.layers.{block}.{name}") for block in blocks for name in MODULES]


class _Bench:
    """A worker with its text, and the levels that it has built."""

    def __init__(self, figures: Figures, workspace: Workspace) -> None:
        self.figures, self.workspace, self.worker = figures, workspace, Worker(workspace)
        count, length = (4, 32) if figures.is_small else (32, 256)
        request = TextRequest(STDLIB, length, count, 8, 8, 0)
        self.tokens: TokenSet = self.worker.run(PrepareText(request))
        self.built: dict[str, list[Level]] = {}

    def learn(self) -> None:
        """Collect statistics, and the dense model's answers."""
        text = self.tokens.load("calibration")
        figures, clock = self.figures, clock_of(self.figures.device)
        with figures.part("statistics"):
            started = clock()
            self.worker.run(Calibrate(self.tokens))
            figures.add("statistics: tokens", round(text.numel() / (clock() - started)), "tokens/s")
        with figures.part("dense answers"):
            self.worker.run(Teach(self.tokens, "search"))

    def build(self, kind: str, texts: Sequence[str], module: ModuleInfo) -> None:
        """Build levels of one kind of a module, if there is time."""
        name = f"{kind}: {module.module_type} of block {module.block}"
        if time.monotonic() > self.figures.deadline - _TRIAL_SECONDS:
            self.figures.add(name, "no time left for it")
            return
        levels, clock = [parse_level(text) for text in texts], clock_of(self.figures.device)
        sizes = tuple((level, module_bytes(module, level)) for level in levels)
        with self.figures.part(name):
            started = clock()
            self.worker.run(BuildLevels(self.tokens, module.name, sizes, tuple(levels)))
            rate = len(levels) * module.weight.num_elements / (clock() - started) / 1e6
            self.figures.add(f"{name}: rate", round(rate, 3), "million weights/s")
            self.built.setdefault(module.name, []).extend(levels)

    def plans(self, count: int) -> list[Plan]:
        """Return plans that change a few modules each; all others stay dense."""
        rng, plan = np.random.default_rng(0), self.worker.engine.dense_plan
        names, found = sorted(self.built), list[Plan]()
        for _ in range(count):
            chosen = rng.choice(names, min(_CHANGES, len(names)), replace=False)
            plan = plan.replace({str(n): self.built[str(n)][rng.integers(len(self.built[str(n)]))] for n in chosen})
            found.append(plan)
        return found

    def measure(self, worker: Worker, plans: Sequence[Plan]) -> tuple[list[float], list[Measurement]]:
        """Return the seconds and the measurements of plans."""
        clock, seconds, found = clock_of(self.figures.device), list[float](), list[Any]()
        for plan in plans:
            started = clock()
            found.append(worker.run(Evaluate(self.tokens, plan, "search")))
            seconds.append(clock() - started)
        return seconds, found


def _trials(figures: Figures, bench: _Bench) -> None:
    """Measure plans with the whole model in memory, and some again block by block."""
    count = _STREAMED_TRIALS if figures.is_small else _TRIALS
    plans, reckoned = bench.plans(count), needed_bytes(bench.workspace.inventory, figures.device, 256)
    measured = list[Measurement]()
    with figures.part(f"{count} trials"):
        seconds, measured = bench.measure(bench.worker, plans)
        tokens = bench.tokens.load("search").numel()
        figures.add("a trial, median", round(median(seconds), 4), "s")
        figures.add("a trial, tokens", round(tokens / median(seconds)), "tokens/s")
        figures.add("mean KL", float(np.mean([m.kl_divergence for m in measured])))
        if figures.device == "cuda" and peak_bytes("cuda") > reckoned:
            figures.fail(f"trials took {peak_bytes('cuda'):,} bytes of the GPU, and {reckoned:,} were reckoned with")
    bench.worker.engine.release()
    with figures.part(f"{_STREAMED_TRIALS} trials, block by block"):
        little = {"gpu_share": _LITTLE} if figures.device == "cuda" else {"memory_bytes": 1}
        apart = Worker(replace(bench.workspace, **little))
        _, again = bench.measure(apart, plans[-_STREAMED_TRIALS:])
        differences = [
            abs(a.kl_divergence - b.kl_divergence) for a, b in zip(again, measured[-len(again) :], strict=True)
        ]
        figures.add("KL block by block, largest difference", max(differences))


def main() -> int:
    """Write the model, and do what a search's worker does."""
    figures = figures_of_arguments()
    folder, bench = figures.work / "model", None
    with figures.part("writing the model"):
        model_folder(figures)
    with figures.part("digest and inventory"):
        inventory, cache = inspect_model(folder), figures.work / "cache"
        figures.add("parameters", inventory.num_parameters)
        bench = _Bench(
            figures, Workspace(str(folder), str(cache), model_digest(folder), inventory, device=figures.device)
        )
    if bench is None:
        return figures.end()
    bench.learn()
    for kind, texts in (SMALL_KINDS if figures.is_small else KINDS).items():
        for module in chosen_modules(bench.workspace.inventory):
            bench.build(kind, texts, module)
    if bench.built:
        _trials(figures, bench)
    return figures.end()


if __name__ == "__main__":
    sys.exit(main())
