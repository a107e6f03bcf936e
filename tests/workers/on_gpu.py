"""Run a worker's tasks, an export, a refit and a whole job on a GPU, or a pretended one.

    python -m tests.workers.on_gpu DEVICE FOLDER KIND...

Prints one JSON document: kind of model, or "levels", "memory" and "job" -> what was found.
"""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import torch
from torch import Tensor

from search.controller import Controller
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import parse_level
from space.plan import Plan
from space.spec import make_spec
from storage.in_memory import MemoryStore
from tests.export.exports import write_export
from tests.search.house import Notes
from tests.workers.pretended_gpu import NAME, register
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind, make_bench, make_tiny, text_request, write_text_file
from tests.workers.weights import correlated_hessian, random_weight
from workers.compress.build import BuiltLevel, build_levels
from workers.compress.module_statistics import Statistics
from workers.kernels.unpack import unpack
from workers.levels.output_factors import do_without
from workers.pool.executor import InlineExecutor
from workers.recover.refit import refit
from workers.run import memory_limits
from workers.run.memory_limits import building_bytes
from workers.runtime.loaders.exported_loaders import load_exported
from workers.runtime.reload import reload
from workers.tasks import Evaluate, PrepareText
from workers.worker import Worker


def _having(gpu_bytes: int) -> Any:
    """Let the GPU have so much memory."""
    return patch("workers.worker.gpu_bytes", lambda _: gpu_bytes)


def _kl(at: Bench, plan: Plan) -> float:
    return float(Worker(at.workspace).run(Evaluate(at.tokens, plan, "held_out", sketch=True)).kl_divergence)


def _built_on(at: Bench, plan: Plan) -> list[str]:
    """Return the devices that levels are built on."""
    devices: list[str] = []

    def noting(weight: Tensor, statistics: Statistics, *rest: Any) -> list[BuiltLevel]:
        devices.extend((weight.device.type, statistics.hessian.device.type))
        return build_levels(weight, statistics, *rest)

    with patch("workers.worker.build_levels", noting):
        at.build(plan)
    return sorted(set(devices))


def _levels(device: str) -> dict[str, list[float]]:
    """Return level -> its output error on the CPU and on the device, and the share of values that differ."""
    rows, columns = (256, 512) if device == "cuda" else (32, 96)
    weight, statistics = random_weight(rows, columns), Statistics(correlated_hessian(columns))
    levels = [parse_level(text) for text in EVERY_KIND if text != "dense"]
    here = build_levels(weight, statistics, levels)
    there = build_levels(weight.to(device), statistics.to(device), levels)
    found = {}
    for level, one, other in zip(levels, here, there, strict=True):
        back = {name: tensor.cpu() for name, tensor in other.tensors.items()}
        rebuilt, again = unpack(one.tensors, level, columns), unpack(back, level, columns)
        same = unpack(other.tensors, level, columns).cpu()
        assert torch.allclose(again, same, atol=1e-5 * float(again.abs().max())), level
        differs = (rebuilt - again).abs() > 1e-4 * rebuilt.abs().max()
        found[str(level)] = [one.output_error, other.output_error, float(differs.float().mean())]
    return found


def _memory() -> dict[str, int]:
    """Return the most that building levels of a large weight took of the GPU, and what is reckoned with."""
    rows, columns = 2048, 2048
    weight, statistics = random_weight(rows, columns).cuda(), Statistics(correlated_hessian(columns)).to("cuda")
    torch.cuda.reset_peak_memory_stats()
    build_levels(weight, statistics, [parse_level(text) for text in ("b2-g64", "b3-g64", "b4-g64-s0.5", "b3-g64-r16")])
    module = ModuleInfo("m", "linear", TensorInfo("m.weight", (rows, columns), "BF16"), block=0)
    return {"peak": torch.cuda.max_memory_allocated(), "reckoned": building_bytes(module)}


def _cache_difference(model: Any, ids: Tensor) -> float:
    """Return the largest difference of the last logits, read at once and one token at a time, over their deviation."""
    whole, cache, last = model(input_ids=ids).logits[:, -1], None, ids
    for token in ids.unbind(1):
        read = model(input_ids=token[:, None], past_key_values=cache, use_cache=True)
        cache, last = read.past_key_values, read.logits[:, -1]
    return float((whole - last).abs().max() / whole.std())


def _job(folder: Path, device: Any) -> dict[str, Any]:
    """Run a short job from begin to end, its one worker in this process."""
    model, text = make_tiny(folder / "model", "tied"), write_text_file(folder / "text.txt")
    store, notes = MemoryStore(), Notes()
    few = {"num_samples": 8, "num_search_samples": 8, "num_held_out_samples": 8, "sequence_length": 32}
    few |= {"workers": 1, "max_trials": 24}
    spec = make_spec(model=str(model), budget="45%", calibration=str(text), bits=(2, 4, 8), kinds=("integer",), **few)
    store.create_job("job", spec)
    with patch("search.job.job_steps.device_of_job", lambda _: device), _having(2**40):
        job = Controller(store, lambda at, *_: InlineExecutor(at), folder / "cache", notes).run("job")
    assert job.document is not None
    points = [(p.size_bytes, p.kl_divergence) for p in job.document.front]
    return {
        "state": job.state,
        "device": job.facts.device,
        "points": points,
        "measured_on": job.document.measured_on,
    }


def _without_factors(_engine: Any, inventory: Inventory, _batches: Any, _outputs: Any, folder: Path) -> None:
    do_without(folder, inventory, "as on a GPU")


def _check(folder: Path, kind: TinyKind, device: Any) -> dict[str, Any]:
    """Do everything on the CPU, then with the same text on the device."""
    model, text = make_tiny(folder / "model", kind), write_text_file(folder / "text.txt")
    with patch("workers.levels.statistics.collect_factors", _without_factors):  # a GPU rounds one-sided
        on_cpu = make_bench(model, folder / "cpu", text)
    plan = on_cpu.plan(EVERY_KIND)
    with _having(2**40):
        at = make_bench(model, folder / "gpu", text, device)
        devices = _built_on(at, plan)
        exported = write_export(at, plan, "packed", folder / "export")
        with torch.no_grad():
            answer = reload(exported.folder, plan, at.workspace, at.tokens)
            packed, _ = load_exported(exported.folder, device)
            cached = _cache_difference(packed, at.tokens.load("held_out")[:2, :12].to(device))
        fitted = replace(at, tokens=refit(at.workspace, plan, at.tokens))
        found = {"gpu": _kl(at, plan), "refitted": _kl(fitted, plan)}
        sampled = at.worker.run(PrepareText(text_request(None))).load("search")
    with _having(2**10):  # too little to hold the model, or to build levels in
        small = make_bench(model, folder / "small", text, device)
        small_devices = _built_on(small, plan)
        found["streamed"] = _kl(small, plan)
    return found | {
        "cpu": _kl(on_cpu, plan),
        "built_on": devices,
        "built_on_small": small_devices,
        "problems": answer.problems,
        "logit_difference": answer.logit_difference,
        "exported": answer.kl_divergence,
        "cached": cached,
        "sampled": list(sampled.shape),
    }


def main() -> None:
    """Answer for each kind of model."""
    device, folder = sys.argv[1], Path(sys.argv[2])
    if device == NAME:
        register()
    item_bytes = {str(device): size for device, size in memory_limits.ITEM_BYTES.items()} | {NAME: 2}
    kinds = cast("list[TinyKind]", sys.argv[3:])
    with redirect_stdout(sys.stderr), patch.object(memory_limits, "ITEM_BYTES", item_bytes):
        found: dict[str, Any] = {kind: _check(folder / kind, kind, device) for kind in kinds}
        found["levels"], found["job"] = _levels(device), _job(folder / "job", device)
        found["memory"] = _memory() if device == "cuda" else None
    print(json.dumps(found))


if __name__ == "__main__":
    main()
