"""Calibration: what builders know of every compressible module's inputs and outputs, one transformer block at a time.

Modules that read the same input (q/k/v, gate/up) share one Hessian. Shape legend: B, T tokens, I in_features.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from space.errors import CalibrationError, ModelError
from space.inventory import Inventory, ModuleInfo
from space.results.expert_tokens import ExpertTokens
from workers.compress.module_statistics import Need, Statistics
from workers.families.block_stacks import BlockOutput
from workers.families.blocks import BlockRunner
from workers.levels.dampings import load_dampings
from workers.levels.expert_inputs import ExpertInputs, read_expert_tokens
from workers.levels.output_factors import (
    KeptOutputs,
    are_collected,
    collect_factors,
    do_without,
    load_factor,
    load_lookups,
)
from workers.model_inputs import Samples, real_tokens
from workers.run.engine import Engine
from workers.run.watched_weights import SitesOf, watching
from workers.whole_files import is_whole, write_safetensors

_BATCH = 8
_ENDED = object()
_LOOKUP_SHARE = 0.1  # of a tied embedding's error, plain, beside its error as a head: where nothing better is known


class _HessianCollector:
    """Sums x xᵀ over the inputs of hooked modules; equal inputs are summed once."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.sums: dict[str, Tensor] = {}
        self.owner: dict[str, str] = {}
        self._last: tuple[Tensor | None, str] = (None, "")
        self.real_bt: Tensor | None = None
        self._hooks = [m.register_forward_pre_hook(self._hook(name)) for name, m in modules.items()]

    def take(self, name: str, inputs: Tensor) -> None:
        """Add (..., I) inputs of a watched weight."""
        self.owner[name] = name
        self._add(name, self._rows(inputs))

    def _rows(self, inputs: Tensor) -> Tensor:
        """Return (rows, I) inputs, without those of padding where a place is a position of the batch."""
        if self.real_bt is not None and inputs.shape[:-1] == self.real_bt.shape:
            return inputs[self.real_bt.bool()].float()
        return inputs.flatten(0, -2).float()

    def _add(self, name: str, rows: Tensor) -> None:
        if name in self.sums:
            self.sums[name].addmm_(rows.T, rows)
        else:
            self.sums[name] = rows.T @ rows

    def _hook(self, name: str) -> Any:
        def add(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            source, owner = self._last
            shared = source is inputs[0]
            self.owner[name] = owner if shared else name
            if shared:
                return
            self._add(name, self._rows(inputs[0]))
            self._last = (inputs[0], name)

        return add

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def write(self, path: Path, also: Mapping[str, str]) -> None:
        """Write each sum once; the metadata tells which module reads which, and what is told also.

        Raises:
            ModelError: a sum is not finite.

        """
        sums = {name: total.cpu() for name, total in self.sums.items()}
        for name, total in sums.items():
            if not torch.isfinite(total).all():
                raise ModelError(
                    f"The dense model gives NaN or infinite values on the calibration text: the input of {name} has "
                    "them. Its config or its weights are broken; see that it generates text with transformers."
                )
        write_safetensors(path, sums, {"owner": json.dumps(self.owner), **also})


def calibrate(engine: Engine, inventory: Inventory, tokens: Samples, out_folder: Path) -> None:
    """Write the Hessians and output factors of all modules under `out_folder`, files per block and one for the head.

    It takes four token-forwards per token: there, each block again, and twice that on the way back.

    Args:
        engine: runs the dense model.
        inventory: its modules.
        tokens: calibration samples; padding among them is left out of Hessians.
        out_folder: made if missing; files are written atomically.

    """
    runner = engine.runner
    modules = dict(runner.model.named_modules())
    batches = list(tokens.to(engine.device).split(_BATCH))
    outputs: list[Any] = [None] * len(batches)
    kept = KeptOutputs(runner.num_blocks, out_folder)
    for index in range(runner.num_blocks):
        inside = [m for m in inventory.modules if m.block == index and m.kind == "linear"]  # what is looked up has no x
        path, before = _block_path(out_folder, inventory, index), list(outputs)
        again = partial(_run_block, runner, index, batches, before)
        with engine.holding_dense(index), _collecting(inside, modules, path, again) as collector:
            for place, batch in enumerate(batches):
                collector.real_bt = real_tokens(batch)
                outputs[place] = runner.run_block(index, batch, outputs[place])
        if engine.device == "cpu":
            kept.keep(outputs)
    head = runner.family.head(runner.model)
    outside = [m for m in inventory.modules if m.block is None and _is_head(m)]
    heads = [m for m in outside if m.kind == "linear" or _user(m, modules) != m.name]
    nothing, path = partial(iter, ()), _block_path(out_folder, inventory, None)
    with engine.holding_dense(runner.num_blocks), _collecting(heads, modules, path, nothing) as collector:
        for batch, output in zip(batches, outputs, strict=True):
            collector.real_bt = real_tokens(batch)
            runner.run_to_head(head, batch, output)
    if engine.device == "cpu":
        collect_factors(engine, inventory, batches, kept.by_batch(), out_folder)
    else:
        do_without(out_folder, inventory, "levels are rounded without them on a GPU")


@contextmanager
def _collecting(
    chosen: Sequence[ModuleInfo], modules: Mapping[str, nn.Module], path: Path, again: Callable[[], Iterator[None]]
) -> Iterator[_HessianCollector]:
    """Write what modules see while the context lasts, and in as much of `again` as experts with few tokens need."""
    hooked = {m.name: modules[_user(m, modules)] for m in chosen if m.is_layer or m.tied}
    watched = [m for m in chosen if m.name not in hooked]
    sites = SitesOf(watched)
    collector = _HessianCollector(hooked)
    experts = ExpertInputs(watched, collector.take)
    try:
        with watching(sites.places(modules), experts.told):
            yield collector
            collector.close()
            with experts.giving_more(modules):
                steps = again()
                while experts.starved() and next(steps, _ENDED) is not _ENDED:
                    pass
    finally:
        collector.close()
    for name, total in experts.fill(collector.sums).items():
        collector.sums[name], collector.owner[name] = total, collector.owner.get(name, name)
    collector.write(path, experts.metadata())


def _run_block(
    runner: BlockRunner, index: int, batches: Sequence[Samples], before: Sequence[BlockOutput]
) -> Iterator[BlockOutput]:
    """Yield a block's output for each batch."""
    for batch, output in zip(batches, before, strict=True):
        yield runner.run_block(index, batch, output)


def _block_path(folder: Path, inventory: Inventory, block: int | None) -> Path:
    """Return the file of a block's statistics, or of those outside; of experts apart they are others than of stacks."""
    apart = "-apart" if any(m.is_one_expert for m in inventory.modules) else ""
    return folder / f"{'head' if block is None else f'block-{block:04d}'}{apart}.safetensors"


def expert_tokens(folder: Path, inventory: Inventory) -> ExpertTokens | None:
    """Return what the experts of a model saw of a calibration text; None: it has none, or it was not counted."""
    if all(m.site is None for m in inventory.modules):
        return None
    return read_expert_tokens(
        [_block_path(folder, inventory, block) for block in range(inventory.num_blocks)], inventory
    )


def _user(module: ModuleInfo, modules: Mapping[str, nn.Module]) -> str:
    """Return the name of the module that multiplies with a weight: of a tied one, the head among those that have it."""
    return next((copy for copy in module.tied if isinstance(modules[copy], nn.Linear)), module.name)


def _is_head(module: ModuleInfo) -> bool:
    return module.kind == "linear" or bool(module.tied)


def calibration_folder(cache_folder: Path, calibration_digest: str) -> Path:
    """Return where the statistics of a calibration text are."""
    return cache_folder / f"calibration-{calibration_digest[:16]}"


def is_calibrated(folder: Path, inventory: Inventory) -> bool:
    """Tell whether all of a calibration's files are there and whole."""
    paths = [_block_path(folder, inventory, block) for block in (*range(inventory.num_blocks), None)]
    return all(map(is_whole, paths)) and are_collected(folder, inventory)


def load_statistics(folder: Path, inventory: Inventory, module_name: str, needs: Collection[Need]) -> Statistics:
    """Return what a calibration has of a module, of the parts that are needed.

    Raises:
        CalibrationError: the text does not call the module.

    """
    hessian = load_hessian(folder, inventory, module_name)
    if "output_factor" not in needs:
        return Statistics(hessian)
    return Statistics(hessian, load_factor(folder, inventory.module(module_name)), load_dampings(folder))


@dataclass(frozen=True, slots=True)
class OutputStatistics:
    """What a calibration has of outputs, for whoever has a Hessian of its own."""

    cache_folder: Path
    calibration_digest: str
    inventory: Inventory

    def beside(self, hessian: Tensor, module_name: str) -> Statistics:
        """Return a Hessian with what is known of the module's outputs, on its device."""
        folder = calibration_folder(self.cache_folder, self.calibration_digest)
        if not are_collected(folder, self.inventory):
            return Statistics(hessian)
        factor = load_factor(folder, self.inventory.module(module_name))
        return Statistics(hessian, factor, load_dampings(folder)).to(hessian.device)


def load_hessian(folder: Path, inventory: Inventory, module_name: str) -> Tensor:
    """Return the (I, I) Hessian of a module's input.

    That of an embedding is what errors of its rows cost by gradients, and what they cost a head of the same weight;
    where there are no gradients, the identity stands for the former.

    Raises:
        CalibrationError: the text does not call the module.

    """
    module = inventory.module(module_name)
    lookups = load_lookups(folder, module)
    if not _is_head(module):
        return torch.eye(module.in_features) if lookups is None else lookups[0]
    with safe_open(_block_path(folder, inventory, module.block), framework="pt") as file:
        owners = json.loads(file.metadata()["owner"])
        if module_name not in owners and module.block is None and module.kind == "embedding":  # no head has it
            return torch.eye(module.in_features) if lookups is None else lookups[0]
        if module_name not in owners:
            raise CalibrationError(
                f"{module_name}: the model does not call it on the calibration text, so that it cannot be compressed: "
                f"leave it as it is with --pin '{module_name}=dense', or give --calibration text that needs it."
            )
        hessian: Tensor = file.get_tensor(owners[module_name])
    if module.kind != "embedding":
        return hessian
    if lookups is None:
        return hessian + torch.eye(len(hessian)) * hessian.diagonal().mean() * _LOOKUP_SHARE
    return hessian * lookups[1] + lookups[0]
