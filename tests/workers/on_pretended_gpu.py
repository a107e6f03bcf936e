"""Run a worker's tasks, an export, a refit and a whole job on a pretended GPU.

    python -m tests.workers.on_pretended_gpu FOLDER KIND...

Prints one JSON document: kind of model, or "job" -> what was found.
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
from space.plan import Plan
from space.spec import make_spec
from storage.memory import MemoryStore
from tests.export.exports import write_export
from tests.search.house import Notes
from tests.workers.pretended_gpu import NAME, register
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind, make_bench, make_tiny, text_request, write_text_file
from workers import residence
from workers.compress.build import BuiltLevel, build_levels
from workers.executor import InlineExecutor
from workers.refit import refit
from workers.reload import reload
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

    def noting(weight: Tensor, hessian: Tensor, *rest: Any) -> list[BuiltLevel]:
        devices.extend((weight.device.type, hessian.device.type))
        return build_levels(weight, hessian, *rest)

    with patch("workers.worker.build_levels", noting):
        at.build(plan)
    return sorted(set(devices))


def _job(folder: Path) -> dict[str, Any]:
    """Run a short job from begin to end, its one worker in this process."""
    model, text = make_tiny(folder / "model", "tied"), write_text_file(folder / "text.txt")
    store, notes = MemoryStore(), Notes()
    few = {"num_samples": 8, "num_search_samples": 8, "num_held_out_samples": 8, "sequence_length": 32}
    few |= {"workers": 1, "max_trials": 24}
    spec = make_spec(model=str(model), budget="45%", calibration=str(text), bits=(2, 4, 8), kinds=("integer",), **few)
    store.create_job("job", spec)
    with patch("search.run.device_of_job", lambda _: NAME), _having(2**40):
        job = Controller(store, lambda at, *_: InlineExecutor(at), folder / "cache", notes).run("job")
    assert job.document is not None
    points = [(p.size_bytes, p.kl_divergence) for p in job.document.front]
    return {
        "state": job.state,
        "device": job.facts["device"],
        "points": points,
        "measured_on": job.document.measured_on,
    }


def _check(folder: Path, kind: TinyKind) -> dict[str, Any]:
    """Do everything on the CPU, then with the same text on the device."""
    model, text = make_tiny(folder / "model", kind), write_text_file(folder / "text.txt")
    on_cpu = make_bench(model, folder / "cpu", text)
    plan = on_cpu.plan(EVERY_KIND)
    with _having(2**40):
        at = make_bench(model, folder / "gpu", text, NAME)
        devices = _built_on(at, plan)
        exported = write_export(at, plan, "packed", folder / "export")
        with torch.no_grad():
            answer = reload(exported.folder, plan, at.workspace, at.tokens)
        fitted = replace(at, tokens=refit(at.workspace, plan, at.tokens))
        found = {"gpu": _kl(at, plan), "refitted": _kl(fitted, plan)}
        sampled = at.worker.run(PrepareText(text_request(None))).load("search")
    with _having(2**10):  # too little to hold the model, or to build levels in
        small = make_bench(model, folder / "small", text, NAME)
        small_devices = _built_on(small, plan)
        found["streamed"] = _kl(small, plan)
    return found | {
        "cpu": _kl(on_cpu, plan),
        "built_on": devices,
        "built_on_small": small_devices,
        "problems": answer.problems,
        "logit_difference": answer.logit_difference,
        "exported": answer.kl_divergence,
        "sampled": list(sampled.shape),
    }


def main() -> None:
    """Answer for each kind of model."""
    register()
    folder = Path(sys.argv[1])
    item_bytes = {str(device): size for device, size in residence.ITEM_BYTES.items()} | {NAME: 2}
    kinds = cast("list[TinyKind]", sys.argv[2:])
    with redirect_stdout(sys.stderr), patch.object(residence, "ITEM_BYTES", item_bytes):
        found = {kind: _check(folder / kind, kind) for kind in kinds} | {"job": _job(folder / "job")}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
