"""What errors of each module cost, from one gradient pass: the first prices of a search, before any plan is measured.

To second order an error d in a module's outputs adds ½ d' F d to the KL divergence, where F is the Fisher matrix of the
model's own answers: the mean of g g' over next tokens drawn from these answers, g the gradient of their loss. Errors of
quantization are nearly independent noise that is spread over the outputs of a module as its values are, so that a
relative output error of one costs, per scored token,

    price = ½ / P Σ_o (Σ_t g_to²) (Σ_t y_to²) / S.

This is the diagonal form of NVIDIA Model Optimizer's gradient score, with the model's own answers in place of the text,
and one price for all levels of a module, whose output errors are known, in place of a forward for each. The model is
differentiated one block at a time, each run again from its input: a streamed model needs one block in memory.

Shape legend: B sequences, T tokens, P scored positions, S summed positions, D hidden, V vocabulary, O outputs.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from space.inventory import Inventory, ModuleInfo
from workers.families.blocks import BlockOutput
from workers.run.engine import Engine
from workers.run.watched_weights import watching

_KEPT_BYTES = 2**28  # of block outputs on the way back


@dataclass
class _Energy:
    """What one use of a module has summed up: (O,) squares of gradients and of outputs, over so many positions."""

    gradient: Tensor
    output: Tensor
    count: int = 0

    def add(self, gradient: Tensor, output: Tensor) -> None:
        self.gradient += gradient.flatten(0, -2).double().square().sum(0)
        self.output += output.flatten(0, -2).double().square().sum(0)
        self.count += gradient[..., 0].numel()

    @property
    def noise(self) -> float:
        """Return twice the KL, summed over positions, that a relative output error of one adds."""
        return float((self.gradient * self.output).sum()) / self.count


class GradientPass:
    """One pass of a model over some text; prices are there once it has run."""

    def __init__(self, engine: Engine, inventory: Inventory, seed: int = 0) -> None:
        """Remember the parts; `seed` is of the drawn answers."""
        self._engine, self._runner = engine, engine.runner
        self._modules: Mapping[str, nn.Module] = dict(engine.runner.model.named_modules())
        self._inventory = inventory
        self._energies: dict[str, _Energy] = {}
        self._generator = torch.Generator().manual_seed(seed)
        self._num_scored = 0

    def prices(self, tokens_bt: Tensor) -> dict[str, float]:
        """Return module name -> KL divergence per token that a relative output error of one adds, to first order.

        Modules that the loss does not depend on have none.

        Raises:
            RuntimeError: torch cannot differentiate the model.

        """
        for chunk in tokens_bt.to(self._engine.device).split(self._chunk(tokens_bt.shape[1])):
            self._run([row[None] for row in chunk])
        found = self._energies
        noise = {m.name: [found[n].noise for n in _uses(m) if n in found] for m in self._inventory.modules}
        return {name: sum(uses) / 2 / self._num_scored for name, uses in noise.items() if uses}

    def _chunk(self, length: int) -> int:
        """Return how many sequences go there and back together: as many as there is room for their block outputs."""
        width = self._runner.model.get_input_embeddings().weight.shape[-1]
        return max(1, int(_KEPT_BYTES // (4 * length * width * self._runner.num_blocks)))

    def _run(self, rows: list[Tensor]) -> None:
        """Go through the model with sequences, (1, T) each, and back."""
        last, outputs = self._runner.num_blocks, [list[BlockOutput]() for _ in rows]
        for block in range(last):
            with self._engine.holding_dense(block):
                for row, found in zip(rows, outputs, strict=True):
                    found.append(self._runner.run_block(block, row, found[-1] if found else None))
        with self._backward(last):
            gradients = [self._head(row, found) for row, found in zip(rows, outputs, strict=True)]
        for block in reversed(range(last)):
            with self._backward(block):
                for index, row in enumerate(rows):
                    before = outputs[index][block - 1] if block else None
                    gradients[index] = self._block(block, row, before, gradients[index])

    @contextmanager
    def _backward(self, stage: int) -> Iterator[None]:
        """Hold a stage's weights, follow what is computed, and sum up what its modules see."""
        outside = stage in (0, self._runner.num_blocks)
        chosen = [m for m in self._inventory.modules if m.block == stage or (outside and m.block is None)]
        users = {name: self._modules[name] for m in chosen for name in _uses(m) if name in self._modules}
        watched = {m.name: m.parameter.rpartition(".") for m in chosen if m.name not in self._modules}
        places = {name: (self._modules[owner], last) for name, (owner, _, last) in watched.items()}
        hooks = [module.register_forward_hook(self._watch(name)) for name, module in users.items()]
        try:
            with (
                self._engine.holding_dense(stage),
                torch.enable_grad(),
                self._runner.recording(),
                watching(places, lambda name: lambda _inputs, output: self._watch(name)(None, None, output)),
            ):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _watch(self, name: str) -> Any:
        def watch(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
            values = output.detach()
            followed = output if output.requires_grad else values.requires_grad_()
            followed.register_hook(lambda gradient: self._take(name, gradient, values))
            return followed.clone()  # what is changed in place behind the module is not what it gave

        return watch

    def _take(self, name: str, gradient: Tensor, output: Tensor) -> None:
        if name not in self._energies:
            zeros = torch.zeros(output.shape[-1], dtype=torch.float64, device=output.device)
            self._energies[name] = _Energy(zeros, zeros.clone())
        self._energies[name].add(gradient, output.detach())

    def _head(self, row: Tensor, outputs: list[BlockOutput]) -> Tensor:
        """Return the (1, T, D) gradient at the last block's output of the loss of answers that the model draws."""
        before = _leaf(outputs[-1])
        logits = self._runner.logits(row, [*outputs[:-1], before], self._runner.num_blocks)
        logits_pv = self._runner.family.loss(logits, row)[0][0].float()
        share = logits_pv.detach().softmax(-1).cpu()
        drawn_p = torch.multinomial(share, 1, generator=self._generator)[:, 0].to(logits_pv.device)
        functional.cross_entropy(logits_pv, drawn_p, reduction="sum").backward()
        self._num_scored += len(drawn_p)
        return _gradient(before)

    def _block(self, block: int, row: Tensor, before: BlockOutput, gradient: Tensor) -> Tensor:
        """Return the gradient at a block's input, given that at its output."""
        start = None if before is None else _leaf(before)
        output = _hidden(self._runner.run_block(block, row, start))
        torch.autograd.backward([output], [gradient])
        return gradient if start is None else _gradient(start)


def _uses(module: ModuleInfo) -> tuple[str, ...]:
    """Return the names under which a module's weight is used."""
    return (module.name, *module.tied)


def _hidden(output: BlockOutput) -> Tensor:
    """Return the (B, T, D) tensor of a block's output."""
    found: Tensor = output[0] if isinstance(output, tuple) else output
    return found


def _leaf(output: BlockOutput) -> BlockOutput:
    """Return a block's output whose gradient is kept."""
    leaf = _hidden(output).detach().requires_grad_()
    return (leaf, *output[1:]) if isinstance(output, tuple) else leaf


def _gradient(leaf: BlockOutput) -> Tensor:
    """Return what backward has left at a leaf; zero where the loss does not depend on it."""
    tensor = _hidden(leaf)
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
