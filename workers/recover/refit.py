"""A chosen plan fitted once more, block by block in order, to what the compressed model really computes: same bytes.

Each module is compressed again for the inputs that the compressed blocks before it produce, towards the outputs of the
dense model (GPTAQ, arXiv 2504.02692, equation 7); then each row's scales are tuned together for a few steps, so that
the block's output comes near the dense block's (as OmniQuant, arXiv 2308.13137, does). Embeddings and heads stay.
Shape legend: B sequences, T tokens, O out_features, I in_features.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from space.digest import digest
from space.inventory import Inventory, ModuleInfo
from space.level import Level
from space.plan import Plan
from workers.compress.build import BuiltLevel, build_levels
from workers.compress.rounding_inputs import damped
from workers.devices import Device
from workers.families.block_stacks import BlockOutput, hidden_of, own_part
from workers.families.blocks import BlockRunner
from workers.families.family_table import FAMILIES
from workers.families.load_modules import load_model
from workers.kernels.stacks import as_parameter, part_of
from workers.kernels.unpack import unpack
from workers.levels.level_store import LevelStore
from workers.levels.statistics import OutputStatistics
from workers.model_inputs import Samples
from workers.recover.recovery import Fitted, Lesson, Recovery, Values
from workers.run.memory_limits import ITEM_BYTES, building_bytes
from workers.tasks import Workspace
from workers.text.tokens import TokenSet

_REFIT_VERSION = 3  # part of the name of what is refitted
_NUM_SEQUENCES = 128  # at most: with 64, and 32, a 2.5-bit plan keeps 0.77 and 0.89 of its KL instead of 0.74
_BATCH = 8
_STATISTICS_BYTES = 40  # for each pair of inputs of a module: its sums, and their factors in double precision
_FORWARD_FLOPS = 11  # for each weight and token: about five forward passes
_FLOPS_PER_CORE = 4e10
_SECONDS_PER_VALUE = 4e-6  # of a level's search
_LEARNING_RATE = 2e-3


def refitted_tokens(tokens: TokenSet, plan: Plan) -> TokenSet:
    """Return the same text under the name that refitted levels of a plan have in a level store."""
    name = digest([tokens.of("calibration"), plan.digest, "refit", _REFIT_VERSION])
    return TokenSet(tokens.path, tokens.note, (name, *tokens.digests[1:]))


def needed_bytes(inventory: Inventory, num_tokens: int, device: Device = "cpu") -> int:
    """Return the memory that a refit takes: both models, a block's inputs on all text, one module's statistics."""
    inside, inputs = [m for m in inventory.modules if m.block is not None], Counter[int | None]()
    for module in inside:
        inputs[module.block] += module.in_features
    widest = max(m.in_features for m in inventory.modules)
    values = 2 * inventory.num_parameters + num_tokens * max(inputs.values(), default=0)
    # a GPU has no other memory to turn to
    building = 0 if device == "cpu" else max(map(building_bytes, inside), default=0)
    return ITEM_BYTES[device] * values + _STATISTICS_BYTES * widest**2 + building


def estimated_seconds(inventory: Inventory, num_tokens: int) -> float:
    """Return about how long a refit takes on one core."""
    forwards = _FORWARD_FLOPS * num_tokens / _FLOPS_PER_CORE
    return (forwards + _SECONDS_PER_VALUE) * inventory.num_parameters


def tokens_read(tokens: TokenSet) -> int:
    """Return how many tokens of calibration text a refit reads."""
    return int(tokens.load("calibration")[:_NUM_SEQUENCES].numel())


def can_help(inventory: Inventory, plan: Plan) -> bool:
    """Tell whether a plan compresses anything inside a block."""
    return any(m.block is not None and not plan[m.name].is_dense for m in inventory.modules)


Progress = Callable[[int, int], None]


def refit(workspace: Workspace, plan: Plan, tokens: TokenSet, progress: Progress = lambda *_: None) -> TokenSet:
    """Fit every level of a plan again and store it; return the token set that names the refitted levels.

    Args:
        workspace: the dense model and its cache, which holds the plan's levels.
        plan: what is exported.
        tokens: the text that its levels were calibrated on.
        progress: told (blocks done, blocks).

    """
    named = refitted_tokens(tokens, plan)
    folder = Path(workspace.cache_folder) / "levels"
    stores = [LevelStore(folder, workspace.model_digest, t.of("calibration")) for t in (tokens, named)]
    packed = [(m, plan[m.name]) for m in workspace.inventory.modules if not plan[m.name].is_dense]
    if all(stores[1].output_error(m.name, level) is not None for m, level in packed):
        return named
    with torch.no_grad():
        refitter = _Refitter(workspace, packed, stores[0], tokens)
        for index in range(refitter.num_blocks):
            for built, name in refitter.refit_block(index):
                stores[1].write(name, built)
            progress(index + 1, refitter.num_blocks)
    for module, level in packed:  # what belongs to no block, or never ran on this text, stays as it is
        error = stores[0].output_error(module.name, level)
        if error is not None and stores[1].output_error(module.name, level) is None:
            stores[1].write(module.name, BuiltLevel(level, stores[0].tensors(module.name, level), error))
    return named


@dataclass(slots=True)
class _Batch:
    """A batch of text, and what the block before gives for it in both models."""

    ids: Samples
    dense: BlockOutput = None
    fitted: BlockOutput = None


class _ReachedError(Exception):
    """Ends a forward at the module that was asked for."""


class _Refitter:
    """The dense model and the compressed one side by side, as far as they have come."""

    def __init__(
        self, workspace: Workspace, packed: Sequence[tuple[ModuleInfo, Level]], store: LevelStore, tokens: TokenSet
    ) -> None:
        models = [load_model(Path(workspace.model_folder), workspace.device) for _ in range(2)]
        family = FAMILIES[workspace.inventory.family]
        self._dense, self._fitted = (BlockRunner(model, family) for model in models)
        self._modules = [dict(model.named_modules()) for model in models]
        self._levels = {m.name: level for m, level in packed}
        self._blocks = {m.name: m.block for m, _ in packed if m.is_layer}
        parameters = dict(models[1].named_parameters(remove_duplicate=False))
        self._weights = {m.name: part_of(parameters[m.parameter], m.site) for m, _ in packed}
        for module, level in packed:
            weight = store.weight(module.name, level, torch.Size(module.weight.shape))
            self._weights[module.name].copy_(weight if module.site is None else as_parameter(weight, module.site))
        ids_nt = tokens.load("calibration")[:_NUM_SEQUENCES].to(workspace.device)
        self._batches = [_Batch(ids) for ids in ids_nt.split(_BATCH)]
        self._outputs = OutputStatistics(Path(workspace.cache_folder), tokens.of("calibration"), workspace.inventory)

    @property
    def num_blocks(self) -> int:
        return self._dense.num_blocks

    def refit_block(self, index: int) -> list[tuple[BuiltLevel, str]]:
        """Return the new levels of a block's modules; both models have run it afterwards."""
        built: dict[str, BuiltLevel] = {}
        for group, inputs in self._run_dense(index):
            found = self._statistics(index, group[0], inputs)
            if found is None:  # not called on every batch, or for other tokens than in the dense model: it stays
                continue
            hessian, shared = found
            for name in group:
                target = _towards_dense(self._modules[0][name].get_parameter("weight").float(), hessian, shared)
                (built[name],) = build_levels(target, self._outputs.beside(hessian, name), [self._levels[name]])
                self._take(name, built[name])
        built = self._tuned(index, built)
        for batch in self._batches:
            batch.fitted = self._fitted.run_block(index, batch.ids, batch.fitted)
        return [(level, name) for name, level in built.items()]

    def _take(self, name: str, built: BuiltLevel) -> None:
        target = self._weights[name]
        target.copy_(unpack(built.tensors, built.level, target.shape[1]))

    def _scaled(self, name: str, factor: Tensor) -> Tensor:
        weight = self._weights[name]
        scaled: Tensor = (weight * factor).to(weight.dtype)
        return scaled

    def _run_dense(self, index: int) -> list[tuple[list[str], list[Tensor]]]:
        """Run a block of the dense model.

        Returns:
            its packed modules in the order they run, those that read the same input together, and that (B, T, I) input
            in each batch.

        """
        groups: dict[str, list[str]] = {}
        inputs: dict[str, list[Tensor]] = {}
        last: list[tuple[str, Tensor]] = []

        def noting(name: str) -> Any:
            def note(_: nn.Module, args: tuple[Tensor, ...]) -> None:
                if not last or last[0][1] is not args[0]:
                    last[:] = [(name, args[0])]
                    inputs.setdefault(name, []).append(args[0])
                first = groups.setdefault(last[0][0], [])
                first += [name] if name not in first else []

            return note

        names = [name for name, block in self._blocks.items() if block == index]
        hooks = [self._modules[0][name].register_forward_pre_hook(noting(name)) for name in names]
        for batch in self._batches:
            batch.dense = self._dense.run_block(index, batch.ids, batch.dense)
            last.clear()
        for hook in hooks:
            hook.remove()
        return [(group, inputs[first]) for first, group in groups.items()]

    def _statistics(self, index: int, name: str, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
        """Return sums over the text of x xᵀ and of d xᵀ: x the fitted, d the dense model's (I,) input of a module."""
        if len(inputs) != len(self._batches):
            return None
        sums: list[Tensor] = []
        for batch, of_dense in zip(self._batches, inputs, strict=True):
            reached = self._reached(index, batch, self._modules[1][name])
            if reached is None or reached[0][0].shape != of_dense.shape:
                return None
            fitted, dense = (x.flatten(0, -2).float() for x in (reached[0][0], of_dense))
            found = [fitted.T @ fitted, dense.T @ fitted]
            sums = [a + b for a, b in zip(sums, found, strict=True)] if sums else found
        return sums[0], sums[1]

    def _reached(self, index: int, batch: _Batch, module: nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Return the arguments that a module of a block is called with in the fitted model, and run no further."""
        found: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def stop(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            found.append((args, kwargs))
            raise _ReachedError

        hook = module.register_forward_pre_hook(stop, with_kwargs=True)
        try:
            self._fitted.run_block(index, batch.ids, batch.fitted)
        except _ReachedError:
            pass
        finally:
            hook.remove()
        return found[0] if found else None

    def _tuned(self, index: int, built: Mapping[str, BuiltLevel]) -> dict[str, BuiltLevel]:
        """Return levels whose rows are scaled so that the block's output comes nearer to the dense block's."""
        block, prefix = self._fitted.block(index), f"{self._fitted.block_name(index)}."
        rows = {n: b for n, b in built.items() if b.level.rank == 0 and "scale" in b.tensors}
        if not rows:
            return dict(built)
        factors = {n: torch.ones(len(self._weights[n]), 1, device=self._weights[n].device) for n in rows}
        with torch.enable_grad():
            for factor in factors.values():
                factor.requires_grad_()
            optimizer = torch.optim.Adam(list(factors.values()), lr=_LEARNING_RATE)
            for batch in self._batches:
                call = self._reached(index, batch, block)
                assert call is not None  # noqa: S101 (every batch runs every block)
                weights = {f"{n.removeprefix(prefix)}.weight": self._scaled(n, f) for n, f in factors.items()}
                found = hidden_of(torch.func.functional_call(block, weights, *call))
                target = hidden_of(own_part(batch.dense, found))
                loss = nn.functional.mse_loss(found.float(), target.float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        found_levels = dict(built)
        for name, factor in factors.items():
            tensors = dict(rows[name].tensors)
            tensors["scale"] = (tensors["scale"].float() * factor.detach()).half()
            found_levels[name] = BuiltLevel(rows[name].level, tensors, rows[name].output_error)
            self._take(name, found_levels[name])
        return found_levels


def _towards_dense(weight: Tensor, hessian: Tensor, shared: Tensor) -> Tensor:
    """Return the (O, I) weight whose output on the fitted inputs is nearest to the dense weight's on the dense ones."""
    factor = torch.linalg.cholesky(damped(hessian).double())
    change: Tensor = torch.cholesky_solve((weight @ (shared - hessian)).T.double(), factor)
    return weight + change.T.float()


def _fit(lesson: Lesson) -> Fitted:
    def progress(done: int, blocks: int) -> None:
        lesson.progress(f"{REFIT.name}: block {done} of {blocks}", done / blocks)

    named = refit(lesson.workspace, lesson.plan, lesson.tokens, progress)
    return Fitted(Values(named, lesson.workspace.model_folder))


REFIT = Recovery(
    name="refit",
    done="fitted once more after the search",
    can_help=can_help,
    needed_bytes=needed_bytes,
    estimated_seconds=estimated_seconds,
    num_tokens=tokens_read,
    fit=_fit,
    goes_on=False,
)
