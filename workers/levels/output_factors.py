"""Output factors: what errors at a module's outputs cost; g gᵀ summed over gradients of answers that the model draws.

Beside the Hessian x xᵀ of its inputs it makes a Kronecker factor of the Fisher matrix (arXiv 2505.22988, section 3,
with inputs and outputs not weighed by each other): an error E of the weight adds about tr(E H_in Eᵀ H_out) to the KL.
Embeddings are looked up: what an error of a row costs is told by the gradients at the rows that were found.

Shape legend: B sequences, T tokens, D hidden, O outputs.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from space.inventory import Inventory, ModuleInfo
from workers.families.block_stacks import BlockOutput, hidden_of
from workers.model_inputs import Samples
from workers.run.backward_pass import BackwardPass
from workers.run.engine import Engine
from workers.whole_files import is_whole, write_safetensors

MAX_OUTPUTS = 8192
"""Wider modules are rounded without a factor: it takes the memory of their square."""
_KEPT_BYTES = 2**28  # of block outputs in memory; more lie in a file


def has_factor(module: ModuleInfo) -> bool:
    """Tell whether a module's outputs are looked at: those of a linear layer in a block, if they are not too many."""
    is_inside = module.block is not None and module.kind == "linear" and module.is_layer
    return is_inside and module.out_features <= MAX_OUTPUTS


def is_looked_up(module: ModuleInfo) -> bool:
    """Tell whether a module is an embedding before the first block, whose rows are looked at, if they are not wide."""
    return module.block is None and module.kind == "embedding" and module.in_features <= MAX_OUTPUTS


def _path(folder: Path, block: int) -> Path:
    return folder / f"factors-{block:04d}.safetensors"


def are_collected(folder: Path, inventory: Inventory) -> bool:
    """Tell whether all of a calibration's factors are there, or why there are none."""
    return all(are_whole(folder, block) for block in range(inventory.num_blocks))


def are_whole(folder: Path, block: int) -> bool:
    """Tell whether the file of a block is there."""
    return is_whole(_path(folder, block))


def load_factor(folder: Path, module: ModuleInfo) -> Tensor | None:
    """Return the (O, O) factor of a module, or None where there is none."""
    if not has_factor(module) or module.block is None:
        return None
    with safe_open(_path(folder, module.block), framework="pt") as file:
        return file.get_tensor(module.name) if module.name in file.keys() else None  # noqa: SIM118 (not a mapping)


def load_lookups(folder: Path, module: ModuleInfo) -> tuple[Tensor, float] | None:
    """Return what errors of an embedding's rows cost where they are looked up, or None where it is not known.

    Returns:
        the (I, I) sum of g gᵀ over gradients at its outputs; and by how much the sum of x xᵀ over inputs of a head of
        the same weight is to be multiplied, so that both count in the same unit.

    """
    if not is_looked_up(module) or not are_whole(folder, 0):
        return None
    with safe_open(_path(folder, 0), framework="pt") as file:
        if module.name not in file.keys():  # noqa: SIM118 (not a mapping)
            return None
        metric: Tensor = file.get_tensor(module.name)
        share = float(file.metadata()["logit_energy"])
    return (metric, share) if metric.diagonal().mean() > 0 else None


class KeptOutputs:
    """All blocks' outputs of all batches for the way back: in memory, or in files that are gone with their last use."""

    def __init__(self, num_blocks: int, folder: Path) -> None:
        """Remember how many blocks there are, and where files may lie."""
        self._num_blocks, self._folder = num_blocks, folder
        self._blocks: list[list[BlockOutput]] = []

    def keep(self, outputs: Sequence[BlockOutput]) -> None:
        """Take the next block's output of each batch."""
        num_bytes = self._num_blocks * sum(hidden_of(output).nbytes for output in outputs)
        self._blocks.append([self._filed(o) if num_bytes > _KEPT_BYTES else o for o in outputs])

    def by_batch(self) -> list[tuple[BlockOutput, ...]]:
        """Return each batch's outputs of all blocks."""
        return list(zip(*self._blocks, strict=True))

    def _filed(self, output: BlockOutput) -> BlockOutput:
        hidden = hidden_of(output)
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".outputs-") as file:
            mapped = torch.from_file(file.name, shared=True, size=hidden.numel(), dtype=hidden.dtype)
        kept = mapped.view(hidden.shape).copy_(hidden)
        return (kept, *output[1:]) if isinstance(output, tuple) else kept


def collect_factors(
    engine: Engine,
    inventory: Inventory,
    batches: Sequence[Samples],
    outputs: Sequence[Sequence[BlockOutput]],
    folder: Path,
) -> None:
    """Write the factors of all blocks' modules, and those of embeddings, going back from the outputs of a forward.

    A model that cannot be differentiated, or whose gradients are not finite, has files that say so and no factors.
    """
    sums: dict[str, Tensor] = {}
    chosen = [m for m in inventory.modules if has_factor(m) or is_looked_up(m)]
    widths = {m.name: m.in_features if is_looked_up(m) else m.out_features for m in chosen}
    num_tokens = sum(batch.numel() for batch in batches)

    def take(name: str, gradient: Tensor, _: Tensor) -> None:
        if gradient.shape[-1] != widths.get(name):  # an embedding's weight is that of the head, too
            return
        rows = gradient.flatten(0, -2).float()
        if name in sums:
            sums[name].addmm_(rows.T, rows)
        else:
            sums[name] = rows.T @ rows

    def write(block: int) -> None:
        if block < engine.runner.num_blocks:
            finite = {name: total.cpu() for name, total in sums.items() if torch.isfinite(total).all()}
            energy = repr(going_back.logit_energy / num_tokens)
            write_safetensors(_path(folder, block), finite, {"logit_energy": energy})
        sums.clear()

    going_back = BackwardPass(engine, chosen, take)
    try:
        going_back.back(batches, outputs, write)
    except (RuntimeError, NotImplementedError) as error:  # what torch raises where it cannot differentiate
        do_without(folder, inventory, str(error).partition("\n")[0])


def do_without(folder: Path, inventory: Inventory, reason: str) -> None:
    """Write files that say why there are no factors."""
    for block in range(inventory.num_blocks):
        write_safetensors(_path(folder, block), {}, {"reason": reason})
