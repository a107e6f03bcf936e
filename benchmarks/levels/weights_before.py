"""Uniform levels of the bundled model's blocks as an earlier checkout rounds them, for `benchmarks.levels.two_sided`.

    PYTHONPATH=CHECKOUT python weights_before.py TOKENS OUT LEVEL [LEVEL ...]

TOKENS is a file of three splits that the present program saved. Written are the float32 weights of each level by the
names of their modules, as OUT/LEVEL.safetensors. Only what both checkouts have is used.
"""

import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from space.level import parse_level
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics
from workers.families.read_inventory import inspect_model
from workers.kernels.unpack import unpack
from workers.levels.statistics import load_hessian
from workers.models.model_files import model_digest, resolve_model
from workers.tasks import Calibrate, Workspace
from workers.text.tokens import save_tokens
from workers.worker import Worker


def main() -> None:
    """Calibrate, round and write."""
    tokens_file, out, *texts = sys.argv[1:]
    torch.set_num_threads(1)
    model = resolve_model("bundled", None)
    inventory, digest = inspect_model(model), model_digest(model)
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Workspace(str(model), folder, digest, inventory))
        splits = load_file(tokens_file)
        tokens = save_tokens(splits, Path(folder), "earlier")  # type: ignore[arg-type]
        worker.run(Calibrate(tokens))
        calibration = worker._calibration_folder(tokens)  # noqa: SLF001 (a benchmark)
        hessians = {
            m.name: load_hessian(calibration, inventory, m.name) for m in inventory.modules if m.block is not None
        }
    for level in map(parse_level, texts):
        weights = {}
        for name, hessian in hessians.items():
            weight = worker.engine.dense_weight(name)
            (built,) = build_levels(weight, Statistics(hessian), [level])
            weights[name] = unpack(built.tensors, level, weight.shape[1]).contiguous()
        save_file(weights, Path(out) / f"{level}.safetensors")


if __name__ == "__main__":
    main()
