"""Two-sided rounding against one-sided: held-out KL of uniform plans, each damping of the output factor alone.

    python -m benchmarks.levels.two_sided [--kinds g64,gch-t-h] [--bits 2,3,4] [--seeds 0] [--before CHECKOUT]

With `--before`, a checkout of an earlier commit (8727642 rounded by GPTQ alone), its levels stand beside ours, judged
alike. The arena's model and text (`benchmarks/search/arena.py`); embedding and head stay dense, so that only what is
rounded
with the factor differs. `chosen` is what a job chooses by search text. Another seed is other calibration text.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from space.level import DENSE, Level, parse_level
from space.plan import Plan
from workers.compress.build import build_levels
from workers.compress.module_statistics import Dampings
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import read_teacher
from workers.families.read_inventory import inspect_model
from workers.kernels.unpack import unpack
from workers.levels.dampings import CANDIDATES
from workers.levels.statistics import load_statistics
from workers.models.model_files import model_digest, resolve_model
from workers.tasks import BATCH, DAMPED_BITS, Calibrate, ChooseDamping, Teach, Workspace
from workers.text.text_sources import STDLIB, Split
from workers.text.tokens import TextRequest, TokenSet, save_tokens, tokenize
from workers.worker import Worker

RESULT = Path(__file__).resolve().parents[1] / "results" / "two_sided.json"
BEFORE = Path(__file__).resolve().parent / "weights_before.py"
_SEEDS = 3


class Bench:
    """One model and one text: statistics, and the KL of uniform plans on held-out sequences."""

    def __init__(self, folder: Path, seed: int, num_samples: int) -> None:
        """Make text and statistics; seeds take calibration sequences that no other one has."""
        torch.set_num_threads(1)
        model = resolve_model("bundled", None)
        self.inventory, digest = inspect_model(model), model_digest(model)
        self.workspace = Workspace(str(model), str(folder / digest[:16]), digest, self.inventory)
        self.worker = Worker(self.workspace)
        request = TextRequest(STDLIB, 256, num_samples * _SEEDS, 32, 64, 0)
        base = tokenize(model, request, folder)
        part = base.load("calibration")[seed::_SEEDS]
        splits: dict[Split, Tensor] = {
            "calibration": part,
            "search": base.load("search"),
            "held_out": base.load("held_out"),
        }
        self.tokens: TokenSet = save_tokens(splits, folder, f"seed {seed}")
        started = time.process_time()
        self.worker.run(Calibrate(self.tokens))
        self.statistics_cpu_seconds = time.process_time() - started
        self.worker.run(Teach(self.tokens, "search"))
        self.worker.run(Teach(self.tokens, "held_out"))
        self.calibration = self.worker._calibration_folder(self.tokens)  # noqa: SLF001 (a benchmark)

    def chosen(self, bits: int) -> float | None:
        """Return the damping that a job chooses."""
        self.worker.run(ChooseDamping(self.tokens, bits))
        found: float | None = json.loads((self.calibration / f"damping-{bits}.json").read_text())["damping"]
        return found

    def kl(self, level: Level, dampings: Dampings) -> tuple[float, float]:
        """Return the held-out KL of the uniform plan of blocks, and the CPU seconds that building it took."""
        started, weights = time.process_time(), dict[str, Tensor]()
        for module in self.inventory.modules:
            if module.block is None:
                continue
            found = load_statistics(self.calibration, self.inventory, module.name, ("hessian", "output_factor"))
            weight = self.worker.engine.dense_weight(module.name)
            (built,) = build_levels(weight, replace(found, dampings=dampings), [level])
            weights[module.name] = unpack(built.tensors, level, weight.shape[1])
        seconds = time.process_time() - started
        return self.kl_of(level, weights), seconds

    def kl_of(self, level: Level, weights: Mapping[str, Tensor]) -> float:
        """Return the held-out KL of some modules' weights, all others dense; the level is only their name."""
        plan = Plan.of({m.name: level if m.name in weights else DENSE for m in self.inventory.modules})
        self.worker.engine.release()
        batches = self.tokens.load("held_out").split(BATCH)
        logits = self.worker.engine.logits(plan, lambda name, *_: weights[name], batches)
        teacher = read_teacher(self.worker.teacher_path(self.tokens, "held_out"))
        kl, _ = sequence_quality(logits, batches, teacher, self.worker._family.loss, 0, None)  # noqa: SLF001
        return sum(kl) / len(kl)


def measure(bench: Bench, kind: str, bits: int, seed: int) -> list[dict[str, Any]]:
    """Return one-sided, each damping, and the chosen one."""
    level, rows = parse_level(f"b{bits}-{kind}"), []
    chosen = bench.chosen(min(max(bits, min(DAMPED_BITS)), max(DAMPED_BITS)))
    for damping in CANDIDATES:
        kl, seconds = bench.kl(level, {bits: damping})
        row = {"level": str(level), "seed": seed, "damping": damping, "kl_divergence": kl, "build_cpu_seconds": seconds}
        rows.append(row | {"chosen": damping == chosen})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def weights_before(checkout: Path, tokens: TokenSet, levels: Sequence[Level]) -> dict[Level, dict[str, Tensor]]:
    """Return the weights of the bundled model's blocks at levels, as an earlier checkout rounds them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(BEFORE), tokens.path, folder, *map(str, levels)]
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(checkout.resolve())})
        return {level: load_file(Path(folder) / f"{level}.safetensors") for level in levels}


def measure_before(bench: Bench, checkout: Path, levels: Sequence[Level], seed: int) -> list[dict[str, Any]]:
    """Return the KL of levels as an earlier checkout rounds them."""
    rows = []
    for level, weights in weights_before(checkout, bench.tokens, levels).items():
        kl = bench.kl_of(level, weights)
        rows.append({"level": str(level), "seed": seed, "before": True, "kl_divergence": kl})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="g64,gch-t-h")
    parser.add_argument("--bits", default="2,3,4")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--num-sequences", type=int, default=128)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--folder", type=Path, default=Path("results") / "two_sided")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    rows: list[Mapping[str, Any]] = []
    seconds = {}
    for seed in map(int, options.seeds.split(",")):
        bench = Bench(options.folder, seed, options.num_sequences)
        seconds[seed] = bench.statistics_cpu_seconds
        if options.before is not None:
            texts = [f"b{bits}-{kind}" for kind in options.kinds.split(",") for bits in options.bits.split(",")]
            rows += measure_before(bench, options.before, [*map(parse_level, texts)], seed)
        for kind in options.kinds.split(","):
            for bits in map(int, options.bits.split(",")):
                rows += measure(bench, kind, bits, seed)
    found = {"num_sequences": options.num_sequences, "statistics_cpu_seconds": seconds, "rows": rows}
    options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
