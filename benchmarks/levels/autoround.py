"""Uniform integers, groups of 64: our rounding against Intel AutoRound's on the same text, by held-out KL.

    python benchmarks/search/outside/make_env.py autoround ENV
    python -m benchmarks.levels.autoround --env ENV [--bits 2,3] [--iters 200] [--out FILE]

The model, text and judge of `benchmarks/levels/two_sided.py`: embedding and head stay dense in both. Ours is the level
as a search has it; as an export has it after a refit, which fits block after block as AutoRound does, on the same text;
and after recoveries from there on, for as long as AutoRound took, which distil the whole model on text of their own.
What AutoRound gave is taken from the file of results where it is there.
"""

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.levels.two_sided import Bench
from space.cost import module_bytes
from space.level import DENSE, parse_level
from space.measurement import Measurement
from space.plan import Plan
from workers.models.model_files import resolve_model
from workers.recover.recovery import Lesson, Values, recover_if_better
from workers.recover.recovery_table import RECOVERIES
from workers.recover.refit import refit, refitted_tokens
from workers.recover.training_text import NUM_SEQUENCES, training_text
from workers.tasks import BuildLevels, Evaluate
from workers.text.text_sources import STDLIB
from workers.text.tokens import TextRequest, TokenSet
from workers.worker import Worker

RESULT = Path(__file__).resolve().parents[1] / "results" / "levels_autoround.json"
SCRIPT = Path(__file__).resolve().parents[1] / "search" / "outside" / "autoround_weights.py"


def autoround_weights(env: Path, tokens: TokenSet, bits: int, group_size: int, iters: int) -> dict[str, Tensor]:
    """Return the weights of the bundled model's blocks as AutoRound rounds them on a job's calibration text."""
    with tempfile.TemporaryDirectory() as folder:
        text, out = Path(folder) / "tokens.safetensors", Path(folder) / "weights.safetensors"
        save_file({"calibration": tokens.load("calibration").long().contiguous()}, text)
        command = [str(env / "bin" / "python"), str(SCRIPT), "--model", str(resolve_model("bundled", None))]
        command += ["--tokens", str(text), "--bits", str(bits), "--group-size", str(group_size)]
        subprocess.run([*command, "--iters", str(iters), "--out", str(out)], check=True)
        return load_file(out)


def peer_kl(bench: Bench, env: Path, bits: int, iters: int) -> tuple[float, float]:
    """Return the held-out KL of AutoRound's weights and the seconds that its process took."""
    started = time.monotonic()
    weights = autoround_weights(env, bench.tokens, bits, 64, iters)
    return bench.kl_of(parse_level(f"b{bits}-g64"), weights), time.monotonic() - started


def uniform(bench: Bench, bits: int) -> Plan:
    """Return the plan of blocks at a bit-width."""
    level = parse_level(f"b{bits}-g64")
    return Plan.of({m.name: DENSE if m.block is None else level for m in bench.inventory.modules})


def refitted_kl(bench: Bench, bits: int) -> tuple[float, float]:
    """Return the held-out KL of the same levels after a refit, and its CPU seconds with that of building them."""
    plan, level, started = uniform(bench, bits), parse_level(f"b{bits}-g64"), time.process_time()
    for module in bench.inventory.modules:
        if module.block is not None:
            sizes = ((level, module_bytes(module, level)),)
            bench.worker.run(BuildLevels(bench.tokens, module.name, sizes, (level,)))
    named = refit(bench.workspace, plan, bench.tokens)
    seconds = time.process_time() - started
    found: Measurement = Worker(bench.workspace).run(Evaluate(named, plan, "held_out"))  # which holds no level yet
    return found.kl_divergence, seconds


def recovered_kl(bench: Bench, bits: int, method: str, seconds: float) -> dict[str, Any]:
    """Return the held-out KL after a recovery of the refitted levels, and what it took."""
    plan = uniform(bench, bits)
    start = Values(refitted_tokens(bench.tokens, plan), bench.workspace.model_folder)
    request = TextRequest(STDLIB, 256, 512, 128, 64, 1)
    lesson = Lesson(
        bench.workspace,
        plan,
        start,
        text=lambda: training_text(bench.workspace, start.tokens, request, NUM_SEQUENCES, is_own=True),
        max_seconds=seconds,
    )
    started = time.process_time()
    found = recover_if_better(RECOVERIES[method], lesson)
    return {
        f"{method}_kl": found.kl_after,
        f"{method}_kept": found.kept,
        f"{method}_cpu_seconds": time.process_time() - started,
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True)
    parser.add_argument("--bits", default="2,3")
    parser.add_argument("--iters", type=int, default=200)
    parser.add_argument("--num-sequences", type=int, default=128)
    parser.add_argument("--folder", type=Path, default=Path("results") / "two_sided")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    bench, rows = Bench(options.folder, 0, options.num_sequences), []
    same = {"num_sequences": options.num_sequences, "iters": options.iters}
    record = json.loads(options.out.read_text()) if options.out.exists() else {}
    known = {row["bits"]: row for row in record.get("rows", ()) if same.items() <= {**record, **row}.items()}
    for bits in map(int, options.bits.split(",")):
        ours, cpu_seconds = bench.kl(parse_level(f"b{bits}-g64"), {bits: bench.chosen(bits)})
        refitted, refit_cpu_seconds = refitted_kl(bench, bits)
        theirs, seconds = (
            (known[bits]["autoround"], known[bits]["autoround_seconds"])
            if bits in known
            else peer_kl(bench, options.env, bits, options.iters)
        )
        row: dict[str, Any] = {"bits": bits, "ours": ours, "our_build_cpu_seconds": cpu_seconds}
        row |= {"refitted": refitted, "build_and_refit_cpu_seconds": refit_cpu_seconds}
        row |= {"autoround": theirs, "iters": options.iters, "autoround_seconds": seconds}
        row |= {"ratio": ours / theirs, "ratio_refitted": refitted / theirs}
        for method in ("scales", "quantization-aware"):
            row |= recovered_kl(bench, bits, method, seconds)
            row[f"ratio_{method}"] = row[f"{method}_kl"] / theirs
        rows.append(row)
        print(json.dumps(row), flush=True)
    options.out.write_text(json.dumps({"num_sequences": options.num_sequences, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
