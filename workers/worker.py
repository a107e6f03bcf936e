"""A worker: holds one model, does one task at a time, and returns values.

What it keeps between tasks (model, current plan, block outputs of a base plan, teacher answers) can be rebuilt at any
time: a worker that dies loses nothing but its task.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.level import Level
from space.measurement import Measurement
from space.plan import Plan
from workers.calibrate import calibrate, is_calibrated, load_hessian
from workers.compress.build import build_levels
from workers.compress.screen import screen_levels
from workers.evaluate.quality import sequence_quality
from workers.evaluate.sketch import Sketcher
from workers.evaluate.teacher import BATCH, Teacher, read_teacher, write_teacher
from workers.levels import LevelStore
from workers.models.blocks import BlockOutput, BlockRunner
from workers.models.load import best_device, load_model
from workers.models.sample import sample_tokens
from workers.models.text import Split
from workers.models.tokens import TokenSet, tokenize
from workers.tasks import BuildLevels, Calibrate, Evaluate, LevelRecord, PrepareText, Task, Teach, Workspace


class Worker:
    """Does tasks on one model; nothing is loaded before the first task that needs it."""

    def __init__(self, workspace: Workspace) -> None:
        """Remember where the model and its cache are."""
        self._space = workspace
        self._cache = Path(workspace.cache_folder)
        self._current: dict[str, Level] = {}
        self._dense: dict[str, Tensor] = {}
        self._teachers: dict[str, Teacher] = {}
        self._base: tuple[str, list[list[BlockOutput]]] = ("", [])

    def run(self, task: Task) -> Any:
        """Do a task and return its result."""
        with torch.no_grad():
            return _HANDLERS[type(task)](self, task)

    def warm_up(self) -> None:
        """Import what the first task needs, which takes seconds, while others are still starting."""
        import transformers.models.auto  # noqa: F401, PLC0415 (slow)

    @cached_property
    def _runner(self) -> BlockRunner:
        model = load_model(Path(self._space.model_folder), best_device())
        parameters = dict(model.named_parameters())
        self._weights: Mapping[str, Tensor] = {m.name: parameters[m.weight.name] for m in self._space.inventory.modules}
        head = model.get_output_embeddings()
        self._head_name = next((name for name, module in model.named_modules() if module is head), None)
        return BlockRunner(model)

    def _level_store(self, tokens: TokenSet) -> LevelStore:
        return LevelStore(self._cache / "levels", self._space.model_digest, tokens.of("calibration"))

    def _calibration_folder(self, tokens: TokenSet) -> Path:
        return self._cache / f"calibration-{tokens.of('calibration')[:16]}"

    def teacher_path(self, tokens: TokenSet, split: Split) -> Path:
        """Return the file of the dense model's answers on a split."""
        return self._cache / f"teacher-{tokens.of(split)[:16]}.safetensors"

    def prepare_text(self, task: PrepareText) -> TokenSet:
        """Make the token sequences, from text or by sampling the model."""
        if task.request.source is None:
            return sample_tokens(self._runner.model, task.request, self._cache)
        return tokenize(Path(self._space.model_folder), task.request, self._cache)

    def calibrate(self, task: Calibrate) -> None:
        """Collect the Hessians, once."""
        folder = self._calibration_folder(task.tokens)
        if not is_calibrated(folder, self._space.inventory):
            self._set_dense()
            device = next(self._runner.model.parameters()).device
            calibrate(self._runner, self._space.inventory, task.tokens.load("calibration").to(device), folder)

    def teach(self, task: Teach) -> float:
        """Compute the dense model's answers, once; return its perplexity."""
        path = self.teacher_path(task.tokens, task.split)
        if not path.exists():
            self._set_dense()
            device = next(self._runner.model.parameters()).device
            write_teacher(path, self._runner, task.tokens.load(task.split).to(device))
        return float(read_teacher(path).loss.mean().exp())

    def build_levels(self, task: BuildLevels) -> tuple[LevelRecord, ...]:
        """Build what is missing of a module's levels; return those that no other one beats."""
        store, sizes = self._level_store(task.tokens), dict(task.sizes)
        if (kept := store.read_records(task)) is not None:
            return kept
        known = {v: store.output_error(task.module_name, v) for v in sizes if not v.is_dense}
        if any(error is None for error in known.values()):
            weight = self._dense_weight(task.module_name)
            hessian = load_hessian(self._calibration_folder(task.tokens), self._space.inventory, task.module_name)
            packed = {v: size for v, size in sizes.items() if not v.is_dense}
            worthwhile, scales = screen_levels(weight, hessian, packed, task.required)
            missing = [v for v in worthwhile if known[v] is None]
            for built in build_levels(weight, hessian, missing, scales) if missing else []:
                store.write(task.module_name, built)
                known[built.level] = built.output_error
        errors = {v: e for v, e in known.items() if e is not None} | {v: 0.0 for v in sizes if v.is_dense}
        chosen = _undominated(errors, sizes, task.required)
        records = tuple(LevelRecord(v, sizes[v], errors[v]) for v in chosen)
        store.write_records(task, records)
        return records

    def evaluate(self, task: Evaluate) -> Measurement:
        """Measure a plan; only changed modules are swapped, only blocks from the first difference to the base run."""
        started = time.perf_counter()
        teacher = self._teacher(task.tokens, task.split)
        tokens = task.tokens.load(task.split)[task.first_sequence :][: task.num_sequences]
        start = 0
        if task.base is not None:
            self._keep_base(task.base, task, tokens)
            start = self._first_difference(task.plan, task.base)
        self._set_plan(task.plan, task.tokens)
        device = next(self._runner.model.parameters()).device

        def forward(index: int, batch: Tensor) -> Tensor:
            outputs = self._base[1][index] if start else None
            return self._runner.logits(batch.to(device), outputs, start)

        length = tokens.shape[1] - 1
        sketcher = Sketcher() if task.sketch else None
        kl, loss = sequence_quality(forward, tokens, teacher, task.first_sequence, sketcher)
        share = 1 - start / (self._runner.num_blocks + 1)
        seconds = time.perf_counter() - started
        measured = Measurement.of_sequences(kl, loss, length, tokens.numel() * share, seconds)
        return measured if sketcher is None else replace(measured, sketch=sketcher.result().numpy())

    def logits(self, plan: Plan, tokens: TokenSet, input_ids: Tensor) -> Tensor:
        """Return (B, T, V) logits of a plan for (B, T) tokens."""
        self._set_plan(plan, tokens)
        return self._runner.logits(input_ids)

    def _teacher(self, tokens: TokenSet, split: Split) -> Teacher:
        path = str(self.teacher_path(tokens, split))
        if path not in self._teachers:
            self._teachers[path] = read_teacher(Path(path))
        return self._teachers[path]

    def _dense_weight(self, module_name: str) -> Tensor:
        _ = self._runner  # loads the weights
        return self._dense.get(module_name, self._weights[module_name]).float().cpu()

    def _set_dense(self) -> None:
        for name in list(self._current):
            self._weights[name].copy_(self._dense[name])
        self._current.clear()

    def _set_plan(self, plan: Plan, tokens: TokenSet) -> None:
        """Swap the modules whose level differs from what the model holds now."""
        _ = self._runner
        store = self._level_store(tokens)
        for name, level in plan.levels:
            if self._current.get(name) == level:
                continue
            target = self._weights[name]
            if name not in self._dense:
                self._dense[name] = target.clone()
            target.copy_(self._dense[name] if level.is_dense else store.weight(name, level, target.shape))
            self._current[name] = level

    def _keep_base(self, base: Plan, task: Evaluate, tokens: Tensor) -> None:
        key = f"{base.digest}-{task.tokens.of(task.split)}-{task.first_sequence}-{len(tokens)}"
        if self._base[0] == key:
            return
        self._set_plan(base, task.tokens)
        device = next(self._runner.model.parameters()).device
        kept: list[list[BlockOutput]] = []
        for batch in tokens.split(BATCH):
            outputs: list[BlockOutput] = []
            self._runner.logits(batch.to(device), outputs)
            kept.append(outputs)
        self._base = (key, kept)

    def _first_difference(self, plan: Plan, base: Plan) -> int:
        """Return the first block that must be run again; a head behind all blocks needs none of them."""
        first = self._runner.num_blocks
        for module in self._space.inventory.modules:
            if plan[module.name] != base[module.name]:
                is_head = module.name == self._head_name
                block = self._runner.num_blocks if is_head else module.block or 0
                first = min(first, block)
        return first


def _undominated(errors: Mapping[Level, float], sizes: Mapping[Level, int], required: tuple[Level, ...]) -> list[Level]:
    """Return, by bytes, the levels that no other level beats on both bytes and error, and the required ones."""
    kept, best = [], float("inf")
    for level in sorted(errors, key=lambda v: (sizes[v], errors[v], str(v))):
        if errors[level] < best or level in required:
            kept.append(level)
        best = min(best, errors[level])
    return kept


_HANDLERS: dict[type, Callable[[Worker, Any], Any]] = {
    PrepareText: Worker.prepare_text,
    Calibrate: Worker.calibrate,
    Teach: Worker.teach,
    BuildLevels: Worker.build_levels,
    Evaluate: Worker.evaluate,
}
