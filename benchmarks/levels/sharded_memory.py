"""What processes that train together take: peak memory of each, by what they divide.

    python -m benchmarks.levels.sharded_memory [--folder DIR] [--out FILE]

Codes of the bundled model at b4-g64 are trained for two steps (`quantization-aware`: as many trained values as
weights), by one process and by two, with and without gradient checkpointing. Peaks are those of whole processes, Python
and torch in them; what a process takes before it has a model is measured beside.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.levels.recovery import uniform
from benchmarks.levels.run import ROOT
from benchmarks.search.arena import Arena, default_folder
from space.cost import module_bytes
from space.results.recovery_names import SHARDINGS
from workers.recover.distill import Course
from workers.recover.quantization_aware import latent_weight
from workers.recover.recovery import Values
from workers.recover.sharded.assignment import Assignment
from workers.recover.sharded.training_together import train_together
from workers.tasks import BuildLevels, Calibrate, Teach
from workers.text.tokens import SPLITS, TokenSet, save_tokens

RESULT = ROOT / "benchmarks" / "results" / "sharded_memory.json"
_COURSE = Course(steps=2, batch=8, warmup=1, judge_every=2)
_EMPTY = (
    "import resource; import workers.recover.sharded.assignment; "
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)
_WAYS = [(1, "none"), *((2, sharding) for sharding in SHARDINGS)]


def _little_text(arena: Arena) -> TokenSet:
    """Return a batch to train on and two sequences to select by, taught."""
    sizes = {"calibration": 8, "search": 2, "held_out": 2}
    tokens = save_tokens({s: arena.tokens.load(s)[: sizes[s]] for s in SPLITS}, arena.folder, "a batch")
    for split in ("calibration", "search"):
        arena.worker.run(Teach(tokens, split))
    return tokens


def main() -> None:
    """Measure one way after the other; write the rows and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=default_folder())
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    arena = Arena(options.folder)
    arena.worker.run(Calibrate(arena.tokens))
    plan = uniform(arena, "b4-g64")
    for module in arena.inventory.modules:
        level = plan[module.name]
        arena.worker.run(BuildLevels(arena.tokens, module.name, ((level, module_bytes(module, level)),), (level,)))
    text = _little_text(arena)
    empty = subprocess.run([sys.executable, "-c", _EMPTY], capture_output=True, check=True, text=True)
    rows = [{"processes": 0, "sharding": "", "checkpointing": False, "peak_bytes": [1024 * int(empty.stdout)]}]
    for checkpointing in (False, True):
        for processes, sharding in _WAYS:
            with tempfile.TemporaryDirectory() as folder:
                assignment = Assignment(
                    workspace=arena.workspace,
                    plan=plan,
                    start=Values(arena.tokens, str(arena.model_folder)),
                    text=text,
                    answers=(arena.worker.teacher_path(text, "calibration"), arena.worker.teacher_path(text, "search")),
                    course=_COURSE,
                    make=latent_weight,
                    state_path=Path(folder) / "state",
                    sharding=sharding,
                    recomputes=checkpointing,
                    threads=torch.get_num_threads(),
                )
                peaks = train_together(assignment, processes)
            rows.append(
                {"processes": processes, "sharding": sharding, "checkpointing": checkpointing, "peak_bytes": peaks}
            )
            print(rows[-1], flush=True)
            options.out.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
