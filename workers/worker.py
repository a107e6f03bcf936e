"""A worker: holds one model, does one task at a time, and returns values.

What it keeps between tasks (model, weights and block outputs of the last plan, teacher answers) can be rebuilt at any
time: a worker that dies loses nothing but its task.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import ModelError, TrialError
from space.level import Level
from space.measurement import Measurement
from space.plan import Plan
from space.results.expert_tokens import ExpertTokens
from workers.compress.build import build_levels
from workers.compress.builders.builder_table import needs_of
from workers.compress.compile_loops import compile_loops
from workers.compress.module_statistics import Statistics
from workers.compress.screen import screen_levels
from workers.damping_choice import NUM_SEQUENCES, choose_damping
from workers.devices import check_device, gpu_bytes
from workers.evaluate.gradients import GradientPass
from workers.evaluate.own_answers import own_answers
from workers.evaluate.quality import sequence_quality
from workers.evaluate.sketch import Sketcher
from workers.evaluate.teacher import Taught, read_teacher, write_teacher
from workers.families.family import Family
from workers.families.family_table import FAMILIES
from workers.levels.cache_errors import CacheErrors
from workers.levels.dampings import load_dampings, write_damping
from workers.levels.level_store import LevelStore
from workers.levels.statistics import calibrate as calibrate_all
from workers.levels.statistics import calibration_folder, expert_tokens, is_calibrated, load_statistics
from workers.levels.useful_levels import undominated
from workers.made_text import made_text
from workers.model_inputs import Samples
from workers.run.engine import Engine
from workers.run.held_weights import Unpack
from workers.run.kept_outputs import keys_of
from workers.run.memory_limits import building_bytes, must_stream
from workers.tasks import (
    BATCH,
    DAMPED_BITS,
    PRICE_FORWARDS,
    AskQuestions,
    BuildLevels,
    Calibrate,
    ChooseDamping,
    CompileLoops,
    DependentTask,
    Evaluate,
    LevelRecord,
    ModulePrices,
    OwnAnswers,
    PrepareText,
    PriceModules,
    Task,
    Teach,
    Workspace,
)
from workers.text.text_sources import Split
from workers.text.tokens import TokenSet
from workers.whole_files import is_whole


class Worker:
    """Does tasks on one model; nothing is loaded before the first task that needs it."""

    def __init__(self, workspace: Workspace) -> None:
        """Remember where the model and its cache are."""
        self._space = workspace
        self._cache = Path(workspace.cache_folder)
        self._teachers: dict[str, Taught] = {}
        self._cache_errors = CacheErrors(workspace.inventory)

    def run(self, task: Task) -> Any:
        """Do a task and return its result."""
        with torch.no_grad():
            return _HANDLERS[type(task)](self, task)

    def warm_up(self) -> None:
        """Import what the first task needs, which takes seconds, while others are still starting."""
        import transformers.models.auto  # noqa: F401 (slow)

    @cached_property
    def engine(self) -> Engine:
        """Return what runs the model; made when the first task needs it."""
        space = self._space
        device = check_device(space.device)
        limit = space.memory_bytes if device == "cpu" else gpu_bytes(space.gpu_share)
        streams = must_stream(space.inventory, limit, device, space.sequence_length)
        return Engine(Path(space.model_folder), space.inventory, device=device, streams=streams)

    def _level_store(self, tokens: TokenSet) -> LevelStore:
        folder, space = self._cache / "levels", self._space
        return LevelStore(folder, space.model_digest, tokens.of("calibration"), space.device)

    def _calibration_folder(self, tokens: TokenSet) -> Path:
        return calibration_folder(self._cache, tokens.of("calibration"))

    def teacher_path(self, tokens: TokenSet, split: Split) -> Path:
        """Return the file of the dense model's answers on a split."""
        return self._cache / f"answers-{tokens.of(split)[:16]}.safetensors"

    def prepare_text(self, task: PrepareText) -> TokenSet:
        """Make the token sequences or other samples, from what the request names or by sampling the model."""
        return made_text(task, self._space, lambda: self.engine.whole_dense())  # noqa: PLW0108 (made when asked for)

    @property
    def _family(self) -> Family:
        return FAMILIES[self._space.inventory.family]

    def calibrate(self, task: Calibrate) -> ExpertTokens | None:
        """Collect the statistics of inputs and outputs, once; return what experts saw."""
        folder = self._calibration_folder(task.tokens)
        if not is_calibrated(folder, self._space.inventory):
            calibrate_all(self.engine, self._space.inventory, task.tokens.load("calibration"), folder)
        return expert_tokens(folder, self._space.inventory)

    def compile_loops(self, task: CompileLoops) -> None:
        """Compile the loops of a CPU; a few seconds the first time that anybody builds such levels here."""
        if self._space.device == "cpu":
            compile_loops(task.levels)

    def choose_damping(self, task: ChooseDamping) -> None:
        """Choose by the first sequences of the search text, once; a GPU rounds without output factors."""
        folder, tokens = self._calibration_folder(task.tokens), task.tokens.load("search")[:NUM_SEQUENCES]
        if task.bits in load_dampings(folder) or self._space.device != "cpu":
            return
        self.teach(Teach(task.tokens, "search"))
        teacher, batches = self._teacher(task.tokens, "search"), tokens.split(BATCH)

        def measure(plan: Plan, weight: Unpack) -> float:
            logits = self.engine.logits(plan, weight, batches)
            kl, _ = sequence_quality(logits, batches, teacher, self._family.loss, 0, None)
            return sum(kl) / len(kl)

        write_damping(
            folder, task.bits, *choose_damping(self.engine, self._space.inventory, folder, task.bits, measure)
        )

    def _has_statistics(self, tokens: TokenSet) -> bool:
        folder = self._calibration_folder(tokens)
        chosen = self._space.device != "cpu" or set(load_dampings(folder)) >= set(DAMPED_BITS)
        return chosen and is_calibrated(folder, self._space.inventory)

    def _make_statistics(self, tokens: TokenSet) -> None:
        self.run(Calibrate(tokens))
        for bits in DAMPED_BITS:
            self.run(ChooseDamping(tokens, bits))

    def teach(self, task: Teach) -> float:
        """Compute the dense model's answers, once; return its perplexity."""
        path = self.teacher_path(task.tokens, task.split)
        if not is_whole(path):
            write_teacher(path, self.engine, task.tokens.load(task.split))
        loss = read_teacher(path).loss.mean()
        if not isfinite(loss):
            raise ModelError(
                f"{self._space.model_folder}: the dense model's answers are NaN or infinite. Its config or its weights "
                "are broken; see that it generates text with transformers."
            )
        return float(loss.exp())

    def price_modules(self, task: PriceModules) -> ModulePrices:
        """Return what errors of each module cost, or why a gradient pass cannot tell."""
        started, tokens = time.perf_counter(), task.tokens.load("search")[: task.num_sequences]
        try:
            prices = GradientPass(self.engine, self._space.inventory).prices(tokens)
        except (RuntimeError, NotImplementedError) as error:  # what torch raises where it cannot differentiate
            return ModulePrices((), reason=f"torch cannot differentiate it: {str(error).splitlines()[0]}")
        if not prices or not all(map(isfinite, prices.values())):
            return ModulePrices((), reason="its gradients are not finite")
        seconds = time.perf_counter() - started
        return ModulePrices(tuple(prices.items()), float(PRICE_FORWARDS * tokens.numel()), seconds)

    def build_levels(self, task: BuildLevels) -> tuple[LevelRecord, ...]:
        """Build what is missing of a module's levels; return those that no other one beats."""
        store, sizes = self._level_store(task.tokens), dict(task.sizes)
        if (kept := store.read_records(task)) is not None:
            return kept
        is_cache = self._space.inventory.module(task.module_name).kind == "cache"
        errors = self._cache_errors.of(self.engine, task) if is_cache else self._built_errors(task, store)
        errors |= {v: 0.0 for v in sizes if v.is_dense}
        chosen = undominated(errors, sizes, task.required)
        records = tuple(LevelRecord(v, sizes[v], errors[v]) for v in chosen)
        store.write_records(task, records)
        return records

    def _built_errors(self, task: BuildLevels, store: LevelStore) -> dict[Level, float]:
        """Return the errors of levels, building what is missing and may be worth it."""
        sizes = dict(task.sizes)
        known = {v: store.output_error(task.module_name, v) for v in sizes if not v.is_dense}
        if any(error is None for error in known.values()):
            weight, statistics = self._material(task.tokens, task.module_name, sizes)
            packed = {v: size for v, size in sizes.items() if not v.is_dense}
            worthwhile, scales = screen_levels(weight, statistics, packed, task.required)
            missing = [v for v in worthwhile if known[v] is None]
            for built in build_levels(weight, statistics, missing, scales) if missing else []:
                store.write(task.module_name, built)
                known[built.level] = built.output_error
        return {v: e for v, e in known.items() if e is not None}

    def lacks(self, task: DependentTask) -> bool:
        """Tell whether something that a task stands on is not there: statistics, answers, levels."""
        if isinstance(task, ChooseDamping):
            return not is_calibrated(self._calibration_folder(task.tokens), self._space.inventory)
        if isinstance(task, BuildLevels):
            return not self._has_statistics(task.tokens)
        has_answers = isinstance(task, AskQuestions) or is_whole(self.teacher_path(task.tokens, task.split))
        return not has_answers or bool(self._level_store(task.tokens).missing(task.plan))

    def provide(self, task: DependentTask) -> None:
        """Make what a task stands on and is not there, each with the content that it has anywhere."""
        if isinstance(task, ChooseDamping):
            self.run(Calibrate(task.tokens))
            return
        if isinstance(task, Evaluate):
            self.run(Teach(task.tokens, task.split))
        store = self._level_store(task.tokens)
        missing = [] if isinstance(task, BuildLevels) else store.missing(task.plan)
        if missing or isinstance(task, BuildLevels):
            self._make_statistics(task.tokens)
        for name, level in missing:
            with torch.no_grad():
                (built,) = build_levels(*self._material(task.tokens, name, [level]), [level])
            store.write(name, built)

    def _material(self, tokens: TokenSet, module_name: str, levels: Iterable[Level]) -> tuple[Tensor, Statistics]:
        """Return the (O, I) weight and the statistics that levels are made of, where they are built."""
        module, device = self._space.inventory.module(module_name), self._space.device
        folder = self._calibration_folder(tokens)
        statistics = load_statistics(folder, self._space.inventory, module_name, needs_of(levels))
        if device != "cpu" and building_bytes(module) > gpu_bytes(self._space.gpu_share):
            device = "cpu"
        if device != "cpu":
            self.engine.release()
        return self.engine.dense_weight(module_name).to(device), statistics.to(device)

    def evaluate(self, task: Evaluate) -> Measurement:
        """Measure a plan; only changed modules are swapped, and no block before the first change is run again."""
        started, paid = time.perf_counter(), self.engine.token_forwards
        teacher, sketcher = self._teacher(task.tokens, task.split), Sketcher() if task.sketch else None
        batches = task.tokens.load(task.split)[task.first_sequence :][: task.num_sequences].split(BATCH)
        keys = keys_of(task.tokens.of(task.split), task.first_sequence, batches)
        logits = self.engine.logits(task.plan, self._level_store(task.tokens).weight, batches, keys)
        kl, loss = sequence_quality(logits, batches, teacher, self._family.loss, task.first_sequence, sketcher)
        if not all(map(isfinite, kl)):
            raise TrialError(f"plan {task.plan.digest[:12]}: the {task.split} text gives no finite KL divergence.")
        paid = self.engine.token_forwards - paid
        sketch = None if sketcher is None else sketcher.result().numpy()
        seconds = time.perf_counter() - started
        return replace(Measurement.of_sequences(kl, loss, teacher.num_scored, paid, seconds), sketch=sketch)

    def ask_questions(self, task: AskQuestions) -> OwnAnswers:
        """Return what a plan says to a user's own questions."""
        paid, logits = self.engine.token_forwards, partial(self.logits, task.plan, task.tokens)
        told = own_answers(task.questions, Path(self._space.model_folder), logits)
        return OwnAnswers(*told, self.engine.token_forwards - paid)

    def logits(self, plan: Plan, tokens: TokenSet, batches: Sequence[Samples]) -> Iterator[Tensor]:
        """Yield the (B, T, V) logits of a plan for each batch."""
        return self.engine.logits(plan, self._level_store(tokens).weight, batches)

    def _teacher(self, tokens: TokenSet, split: Split) -> Taught:
        path = str(self.teacher_path(tokens, split))
        if path not in self._teachers:
            self._teachers[path] = read_teacher(Path(path))
        return self._teachers[path]


_HANDLERS: dict[type, Callable[[Worker, Any], Any]] = {
    PrepareText: Worker.prepare_text,
    Calibrate: Worker.calibrate,
    CompileLoops: Worker.compile_loops,
    ChooseDamping: Worker.choose_damping,
    Teach: Worker.teach,
    PriceModules: Worker.price_modules,
    BuildLevels: Worker.build_levels,
    Evaluate: Worker.evaluate,
    AskQuestions: Worker.ask_questions,
}
