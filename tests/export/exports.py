"""Exports of tiny models for the tests: written from a bench, reloaded in a fresh process."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from space.plan import Plan
from tests.workers.tiny_models import Bench
from tightfit.export.checkpoint import write_checkpoint, write_papers
from tightfit.export.source import Source, Written

IDS = torch.randint(2, 300, (3, 16), generator=torch.Generator().manual_seed(5))


@dataclass(frozen=True, slots=True)
class Export:
    """One export: where it came from and what was written."""

    bench: Bench
    plan: Plan
    written: Written

    @property
    def folder(self) -> Path:
        """Return the exported folder."""
        return self.written.folder

    def searched_logits(self) -> Tensor:
        """Return the searched model's logits."""
        return next(self.bench.worker.logits(self.plan, self.bench.tokens, [IDS]))

    def reloaded_logits(self) -> Tensor:
        """Return what the fresh process computed."""
        return load_file(self.folder.with_name(f"{self.folder.name}.logits"))["logits"]


def source_of(bench: Bench, plan: Plan) -> Source:
    """Return where a plan's bytes are."""
    return Source(bench.folder, bench.workspace.inventory, bench.store, plan)


def reload_request(bench: Bench) -> dict[str, Any]:
    """Return where the searched model, its levels and its text are, as a check of an export asks for it."""
    return {
        "model_folder": str(bench.folder),
        "cache_folder": bench.workspace.cache_folder,
        "model_digest": bench.workspace.model_digest,
        "tokens": bench.tokens.to_json(),
        "device": "cpu",
    }


def write_export(bench: Bench, plan: Plan, target: str, folder: Path) -> Export:
    """Write a plan, without provenance."""
    folder.mkdir(parents=True)
    written = write_checkpoint(folder, source_of(bench, plan), target)
    write_papers(written, {}, "")
    return Export(bench, plan, written)


def reload_all(exports: Sequence[Export], *arguments: str) -> dict[str, Any]:
    """Return what a fresh process finds in each folder."""
    request = {"folders": [str(e.folder) for e in exports], "ids": IDS.tolist()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.export.reload_tiny", *arguments],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
