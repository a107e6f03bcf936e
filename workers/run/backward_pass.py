"""A model run forward and back, one block at a time, for what its modules see of the loss of answers that it draws.

The loss is that of next tokens drawn from the model's own answers, so that the mean of g g' over gradients g is the
Fisher matrix of these answers, which is how the KL divergence grows. Weights have no gradients. Each block is run again
from its input on the way back: a streamed model needs one block in memory.

Shape legend: B sequences, T tokens, P scored positions, D hidden, V vocabulary, O outputs.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from space.inventory import ModuleInfo
from workers.families.block_stacks import BlockOutput, hidden_of
from workers.kernels.followed_weight import Told
from workers.model_inputs import Samples
from workers.run.engine import Engine
from workers.run.watched_weights import SitesOf, watching

_PLAIN = 3  # dimensions of what most blocks give
Take = Callable[[str, Tensor, Tensor], None]
"""name of a module, (B, T, O) gradient at its output, the output"""


class BackwardPass:
    """Runs batches of sequences through a model and back.

    Attributes:
        num_scored: positions whose loss was differentiated so far.
        logit_energy: sum over them of 1 - sum p²: what errors of their logits, as large and independent, cost.

    """

    def __init__(self, engine: Engine, chosen: Sequence[ModuleInfo], take: Take, seed: int = 0) -> None:
        """Remember the parts; `chosen` modules are told to `take`; `seed` is of the drawn answers."""
        self._engine, self._runner, self._take = engine, engine.runner, take
        self._modules: Mapping[str, nn.Module] = dict(engine.runner.model.named_modules())
        self._chosen = chosen
        self._generator = torch.Generator().manual_seed(seed)
        self.num_scored, self.logit_energy = 0, 0.0

    def forward(self, batches: Sequence[Samples]) -> list[list[BlockOutput]]:
        """Return the outputs of all blocks for each batch."""
        outputs = [list[BlockOutput]() for _ in batches]
        for block in range(self._runner.num_blocks):
            with self._engine.holding_dense(block):
                for batch, found in zip(batches, outputs, strict=True):
                    found.append(self._runner.run_block(block, batch, found[-1] if found else None))
        return outputs

    def back(
        self,
        batches: Sequence[Samples],
        outputs: Sequence[Sequence[BlockOutput]],
        ended: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Go back from the loss to the first block; `ended(block)` is told once all of a block has been taken.

        Raises:
            RuntimeError: torch cannot differentiate the model.

        """
        last = self._runner.num_blocks
        with self._backward(last):
            gradients = [self._heads(batch, found) for batch, found in zip(batches, outputs, strict=True)]
        ended(last)
        for block in reversed(range(last)):
            with self._backward(block):
                for index, batch in enumerate(batches):
                    before = outputs[index][block - 1] if block else None
                    gradients[index] = self._block(block, batch, before, gradients[index])
            ended(block)

    @contextmanager
    def _backward(self, stage: int) -> Iterator[None]:
        """Hold a stage's weights, follow what is computed, and tell what its modules see."""
        outside = stage in (0, self._runner.num_blocks)
        chosen = [m for m in self._chosen if m.block == stage or (outside and m.block is None)]
        users = {name: self._modules[name] for m in chosen for name in uses(m) if name in self._modules}
        sites = SitesOf([m for m in chosen if m.name not in self._modules])
        places = sites.places(self._modules)

        def told(parameter: str) -> Told:
            return lambda _inputs, output, expert: self._watched(sites.names(parameter, expert), output)

        hooks = [module.register_forward_hook(self._watch(name)) for name, module in users.items()]
        try:
            with (
                self._engine.holding_dense(stage),
                torch.enable_grad(),
                self._runner.recording(),
                watching(places, told),
            ):
                yield
        finally:
            for hook in hooks:
                hook.remove()

    def _watch(self, name: str) -> Any:
        return lambda _module, _inputs, output: self._watched((name,), output)

    def _watched(self, names: Sequence[str], output: Tensor) -> Tensor:
        """Have the gradient at an output taken, each expert's part of (E, ...) at once; return what to go on with."""
        values = output.detach()
        followed = output if output.requires_grad else values.requires_grad_()

        def take(gradient: Tensor) -> None:
            if len(names) == 1:
                self._take(names[0], gradient, values)
                return
            for name, part, value in zip(names, gradient, values, strict=True):
                self._take(name, part, value)

        followed.register_hook(take)
        return followed.clone()  # what is changed in place behind the module is not what it gave

    def _heads(self, batch: Samples, outputs: Sequence[BlockOutput]) -> Tensor:
        """Return the gradients of a batch, one sequence at a time: logits of large vocabularies take gigabytes.

        Where blocks give more than (B, T, D), as Gemma 3n's do, which dimension is the batch is theirs to know.
        """
        *before, last = outputs
        hidden = hidden_of(last)
        if hidden.ndim > _PLAIN:
            return self._head(batch, outputs)
        rows = [hidden[i : i + 1] for i in range(len(batch))]
        lasts = [(row, *last[1:]) if isinstance(last, tuple) else row for row in rows]
        return torch.cat([self._head(batch[i : i + 1], [*before, found]) for i, found in enumerate(lasts)])

    def _head(self, batch: Samples, outputs: Sequence[BlockOutput]) -> Tensor:
        """Return the (B, T, D) gradient at the last block's output of the loss of answers that the model draws."""
        before = _leaf(outputs[-1])
        logits = self._runner.logits(batch, [*outputs[:-1], before], self._runner.num_blocks)
        scored, right = self._runner.family.loss(logits, batch)
        logits_pv = scored.flatten(0, 1)[right.flatten() >= 0].float()
        loss, energy = self._loss_of_drawn(logits_pv)
        loss.backward()
        self.logit_energy += energy
        self.num_scored += len(logits_pv)
        return _gradient(before)

    def _loss_of_drawn(self, answers_pv: Tensor) -> tuple[Tensor, float]:
        """Return the loss of answers that the model draws: of classes by their logits, or of vectors around its own.

        Beside it stands the trace of the Fisher matrix of the logits, or of the vectors, summed over positions.
        """
        if self._runner.family.question.answer == "vectors":
            noise_pe = torch.randn(answers_pv.shape, generator=self._generator).to(answers_pv.device)
            return (answers_pv * noise_pe).sum(), float(
                answers_pv.numel()
            )  # but for a constant ½|e - e' - noise|² at e' = e
        share = answers_pv.detach().softmax(-1).cpu()
        drawn_p = torch.multinomial(share, 1, generator=self._generator)[:, 0].to(answers_pv.device)
        energy = len(drawn_p) - float(share.square().sum(dtype=torch.float64))
        return functional.cross_entropy(answers_pv, drawn_p, reduction="sum"), energy

    def _block(self, block: int, batch: Samples, before: BlockOutput, gradient: Tensor) -> Tensor:
        """Return the gradient at a block's input, given that at its output."""
        start = None if before is None else _leaf(before)
        output = hidden_of(self._runner.run_block(block, batch, start))
        torch.autograd.backward([output], [gradient])
        return gradient if start is None else _gradient(start)


def uses(module: ModuleInfo) -> tuple[str, ...]:
    """Return the names under which a module's weight is used."""
    return (module.name, *module.tied)


def _leaf(output: BlockOutput) -> BlockOutput:
    """Return a block's output whose gradient is kept."""
    leaf = hidden_of(output).detach().requires_grad_()
    return (leaf, *output[1:]) if isinstance(output, tuple) else leaf


def _gradient(leaf: BlockOutput) -> Tensor:
    """Return what backward has left at a leaf; zero where the loss does not depend on it."""
    tensor = hidden_of(leaf)
    return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
