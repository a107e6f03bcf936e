"""A model larger than a worker's memory: a random Llama of 1.1 billion parameters, block by block from disk.

    python -m benchmarks.trials.large [--folder FOLDER] [--memory 2000000000] [--trials 20] [--out FILE]

The model (bfloat16, 2.2 GB) is written once. Then a process whose private memory is limited (RLIMIT_DATA) inspects it,
calibrates, builds four levels of every module and measures plans; what it prints tells the time and the peak of each
step. Run again, it goes on: what an earlier run made is found, and told as such.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from space.menu import Menu, build_space
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest, resolve_model
from workers.run.memory_limits import available_bytes, must_stream, needed_bytes
from workers.tasks import BuildLevels, Calibrate, Evaluate, PrepareText, Teach, Workspace
from workers.text.text_sources import STDLIB
from workers.text.tokens import TextRequest
from workers.worker import Worker

ROOT = Path(__file__).resolve().parents[2]
RESULT = ROOT / "benchmarks" / "results" / "trials" / "large.json"
BITS = (2, 3, 4, 8)
SHAPE = {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32}
SHAPE |= {"num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048}
NUM_CALIBRATION, NUM_SEARCH, SEQUENCE_LENGTH = 8, 4, 128


def write_model(folder: Path, shape: Mapping[str, int] = SHAPE) -> None:
    """Write a random model, one file per block, and the bundled model's tokenizer."""
    if (folder / "model.safetensors.index.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(**shape, tie_word_embeddings=False, bos_token_id=0, eos_token_id=1, dtype="bfloat16")
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(folder)
    for path in resolve_model("bundled", None).glob("*token*"):
        shutil.copy(path, folder)
    with torch.device("meta"):
        shapes = {n: tuple(p.shape) for n, p in LlamaForCausalLM(config).named_parameters()}
    groups: dict[str, dict[str, Any]] = {}
    generator = torch.Generator().manual_seed(0)
    for name, size in shapes.items():
        part = name.split(".")[2] if ".layers." in name else "rest"
        values = torch.ones(size) if len(size) == 1 else 0.02 * torch.randn(size, generator=generator)
        groups.setdefault(part, {})[name] = values.bfloat16()
    index: dict[str, str] = {}
    for part, tensors in groups.items():
        save_file(tensors, folder / f"model-{part}.safetensors")
        index |= dict.fromkeys(tensors, f"model-{part}.safetensors")
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def private_bytes() -> int:
    """Return the private data segment of this process: the number that RLIMIT_DATA bounds."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))


class Steps:
    """Runs steps; keeps their seconds and their peak of private memory, looked at twenty times a second."""

    def __init__(self) -> None:
        """Begin to look."""
        self.rows: dict[str, dict[str, float]] = {}
        self.peak_bytes = 0
        Thread(target=self._look, daemon=True).start()

    def run(self, name: str, step: Callable[[], Any], makes: Path | None = None) -> Any:
        """Run a step and print what it took, and whether it found all files in the folder that it makes."""
        started, self.peak_bytes = time.monotonic(), private_bytes()
        before = _num_files(makes)
        found = step()
        self.rows[name] = {"seconds": round(time.monotonic() - started, 1), "peak_private_bytes": self.peak_bytes}
        if makes is not None and _num_files(makes) == before:
            self.rows[name]["found"] = 1
        print(json.dumps({name: self.rows[name]}), flush=True)
        return found

    def _look(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, private_bytes())
            time.sleep(0.05)


def _num_files(folder: Path | None) -> int:
    return 0 if folder is None else sum(1 for path in folder.rglob("*") if path.is_file())


def work(folder: Path, cache: Path, num_trials: int) -> dict[str, Any]:
    """Do all that a search's worker does, in this process."""
    torch.set_num_threads(1)
    steps, rng = Steps(), np.random.default_rng(0)
    inventory = steps.run("dry run", lambda: inspect_model(folder))
    streams = must_stream(inventory, None)
    print(f"needs {needed_bytes(inventory):,} bytes as a whole, may take {available_bytes():,}: streams {streams}")
    worker = Worker(Workspace(str(folder), str(cache), model_digest(folder), inventory))
    request = TextRequest(STDLIB, SEQUENCE_LENGTH, NUM_CALIBRATION, NUM_SEARCH, NUM_SEARCH, 0)
    tokens = steps.run("text", lambda: worker.run(PrepareText(request)), cache)
    steps.run("calibration", lambda: worker.run(Calibrate(tokens)), cache)
    steps.run("dense answers", lambda: worker.run(Teach(tokens, "search")), cache)
    space = build_space(inventory, Menu(BITS, (64,), (0.0,), (0,), ("integer",)), "packed", ())

    def build() -> None:
        for count, (name, sizes) in enumerate(space.sizes.items()):
            worker.run(BuildLevels(tokens, name, tuple(sizes.items()), tuple(sizes)))
            if count % 10 == 0:
                print(f"  {count + 1} of {len(space.sizes)} modules, peak {steps.peak_bytes:,} bytes", flush=True)

    steps.run("levels", build, cache)
    names, plan, kl = list(space.levels), next(iter(space.uniform_plans()))[1], []

    def measure() -> None:
        nonlocal plan
        for _ in range(num_trials):
            kl.append(worker.run(Evaluate(tokens, plan, "search")).kl_divergence)
            changes = {str(n): space.levels[str(n)][rng.integers(len(BITS))] for n in rng.choice(names, 3)}
            plan = plan.replace(changes)

    steps.run("trials", measure)
    return {"streams": streams, "steps": steps.rows, "trials": num_trials, "kl_divergence": kl}


def limited(arguments: list[str]) -> dict[str, Any]:
    """Run `work` in a process that limits itself; return what it found."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
    command = [sys.executable, "-m", "benchmarks.trials.large", "--inside", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    last = ""
    for line in process.stdout or ():
        print(line, end="", flush=True)
        last = line
    if process.wait() != 0:
        raise SystemExit(f"the limited process ended with {process.returncode}")
    found: dict[str, Any] = json.loads(last)
    return found


def main() -> None:
    """Write the model, run the limited process, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path.home() / ".cache" / "tightfit-benchmarks" / "large")
    parser.add_argument("--memory", type=int, default=2_000_000_000)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        resource.setrlimit(resource.RLIMIT_DATA, (options.memory, options.memory))
        print(json.dumps(work(options.folder / "model", options.folder / "cache", options.trials)))
        return
    write_model(options.folder / "model")
    numbers = ["--trials", str(options.trials), "--memory", str(options.memory)]
    found = limited(["--folder", str(options.folder), *numbers])
    found["limit_bytes"] = options.memory
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
