"""Runs plans: the whole model in memory, or one block after the other where it is larger than the worker's memory.

Both ways compute the same bits. Both start each batch at the first block that the plan before it does not share.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from space.errors import CalibrationError
from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from workers.devices import Device, compute_dtype
from workers.families.blocks import BlockRunner
from workers.families.family_table import FAMILIES
from workers.families.input_embedding import input_embedding
from workers.model_inputs import Samples
from workers.run.held_weights import Resident, Unpack
from workers.run.kept_outputs import Key, Stages, Trail, Trails, names_by_stage


class Engine:
    """A model that takes plans.

    Attributes:
        device: where it computes.
        runner: the model and its blocks.
        token_forwards: work done so far: tokens, times the share of the blocks that were run; the head counts as one.

    """

    def __init__(self, folder: Path, inventory: Inventory, *, device: Device = "cpu", streams: bool = False) -> None:
        """Map the model; a weight is read when a plan needs it.

        Args:
            folder: the checkpoint.
            inventory: its modules.
            device: where it computes.
            streams: hold one block at a time instead of all.

        """
        self.device, self._streams = device, streams
        self._inventory, self._resident, self._trails = inventory, Resident(folder, inventory, self.device), Trails()
        model: Any = self._resident.model
        modules = dict(model.named_modules())
        lookups = {m.name: modules[m.name] for m in inventory.modules if m.kind == "embedding"}
        of_tokens = input_embedding(model)
        for module in {*filter(None, [of_tokens]), *lookups.values()}:
            _look_up_anywhere(module, device)
        family = FAMILIES[inventory.family]
        head = family.head(model)
        head_name = next((name for name, module in model.named_modules() if module is head), None)
        self.runner = BlockRunner(model, family)
        others = [name for name, module in lookups.items() if module is not of_tokens]
        anywhere = others if len(self.runner.starts) == 1 else ()  # a second stack has an embedding of its own
        self._names = names_by_stage(inventory, head_name, self.runner.starts, anywhere)
        self.token_forwards = 0.0

    def dense_weight(self, module_name: str) -> Tensor:
        """Return a (rows, columns) float32 weight of the checkpoint."""
        return self._resident.dense_weight(module_name)

    @property
    def dense_plan(self) -> Plan:
        """Return the plan that leaves everything as it is."""
        return Plan.dense(site.name for site in self._inventory.sites)

    def whole_dense(self) -> Any:
        """Return the dense model, all of it in memory.

        Raises:
            CalibrationError: it would not fit.

        """
        if self._streams:
            raise CalibrationError(
                "Text cannot be sampled from a model that is run block by block, since its memory does not hold it. "
                "Give --calibration a text or JSONL file, or workers more memory (--worker-memory, --workers)."
            )
        self._resident.hold(self.dense_plan.levels, no_level)
        return self.runner.model

    def logits(
        self, plan: Plan, unpack: Unpack, batches: Sequence[Samples], keys: Sequence[Key] = ()
    ) -> Iterator[Tensor]:
        """Yield the (B, T, V) logits of a plan for each batch.

        Args:
            plan: the plan.
            unpack: gives the weights of its levels.
            batches: samples each.
            keys: names of the batches, where the way to their logits is worth remembering.

        """
        batches = [batch.to(self.device) for batch in batches]
        trails = self._trails.of(keys) if keys else [Trail() for _ in batches]
        stages = tuple(tuple(plan[name] for name in names) for names in self._names)
        if self._streams:
            yield from self._block_by_block(plan, unpack, batches, trails, stages)
            return
        self._resident.hold(plan.levels, unpack)
        for batch, trail in zip(batches, trails, strict=True):
            is_near = trail.is_near(stages)
            start = self._begin(trail, stages, batch)
            with self._replaying(trail, start, stages, is_near=is_near):
                logits = self.runner.logits(batch, trail.outputs, start)
            trail.keep(stages, self._trails.share_bytes)
            yield logits

    def release(self) -> None:
        """Give the memory of all modules back until they are used again."""
        self._resident.release([site.name for site in self._inventory.sites])

    @contextmanager
    def holding_dense(self, block: int) -> Iterator[None]:
        """Have a block in memory as it is in the checkpoint, with what lies outside; the index behind all: the head."""
        if self._streams:
            with self._holding(self.dense_plan, no_level, block):
                yield
            return
        self._resident.hold(self.dense_plan.levels, no_level)
        yield

    @contextmanager
    def _replaying(self, trail: Trail, start: int, stages: Stages, *, is_near: bool) -> Iterator[None]:
        """Let calls in the first block that is run be answered that cannot have changed."""
        if start == self.runner.num_blocks:
            yield
            return
        changed = self._changes_inside(trail, start, stages) if is_near else None
        trail.replayed = None
        if not (is_near and self._trails.may_replay(trail)):
            trail.replay.clear()
            yield
            return
        with trail.replay.through(self.runner.block(start), changed):
            yield
        trail.replayed = (start, stages[start])

    def _changes_inside(self, trail: Trail, block: int, stages: Stages) -> list[str] | None:
        """Return the names in a block of modules that changed since its calls were remembered; None: all may have."""
        if trail.replayed is None or trail.replayed[0] != block:
            return None
        levels, prefix = zip(self._names[block], trail.replayed[1], stages[block], strict=True), self._prefix(block)
        changed = [name for name, before, now in levels if before != now]
        is_inside = all(name.startswith(prefix) for name in changed)  # else it is what comes before the first block
        return [name.removeprefix(prefix) for name in changed] if is_inside else None

    def _prefix(self, block: int) -> str:
        return f"{self.runner.block_name(block)}."

    def _begin(self, trail: Trail, stages: Stages, batch: Samples) -> int:
        """Return the first block to run on a batch, and count the work."""
        start, blocks = trail.start(stages), self.runner.num_blocks
        trail.stages = ()  # until all outputs are of this plan
        self.token_forwards += batch.numel() * (blocks + 1 - start) / (blocks + 1)
        return start

    def _block_by_block(
        self, plan: Plan, unpack: Unpack, batches: Sequence[Samples], trails: Sequence[Trail], stages: Stages
    ) -> Iterator[Tensor]:
        starts = [self._begin(trail, stages, batch) for trail, batch in zip(trails, batches, strict=True)]
        last = self.runner.num_blocks
        for block in range(min(starts), last):
            with self._holding(plan, unpack, block):
                for batch, trail, start in zip(batches, trails, starts, strict=True):
                    if block >= start:
                        output = self.runner.run_block(block, batch, trail.outputs[block - 1] if block else None)
                        trail.push(block, output, last, self._trails.share_bytes)
        for trail in trails:
            trail.stages = stages
        with self._holding(plan, unpack, last):
            for batch, trail in zip(batches, trails, strict=True):
                yield self.runner.logits(batch, trail.outputs, last)

    @contextmanager
    def _holding(self, plan: Plan, unpack: Unpack, stage: int) -> Iterator[None]:
        """Have the modules of a stage in memory while the context lasts, and no longer, however it ends."""
        names = self._names[stage]
        try:
            self._resident.hold([(name, plan[name]) for name in names], unpack)
            yield
        finally:
            self._resident.release(names)


def _look_up_anywhere(embedding: nn.Module, device: Device) -> None:
    """Let an embedding that is not held be read where the checkpoint is, and its rows come to the device."""
    dtype = compute_dtype(device)

    def to_weight(
        module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        where = module.get_parameter("weight").device

        def moved(value: Any) -> Any:
            return value.to(where) if isinstance(value, Tensor) else value

        return tuple(map(moved, inputs)), {name: moved(value) for name, value in named.items()}

    embedding.register_forward_pre_hook(to_weight, with_kwargs=True)
    embedding.register_forward_hook(lambda _module, _inputs, out: out.to(device, dtype))


def no_level(name: str, level: Level, _shape: object) -> Tensor:
    """Stand for the level store where only dense weights are asked for."""
    raise AssertionError(f"{name} is asked for at {level} while the model is dense")
