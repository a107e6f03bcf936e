"""Run a model from any block on, through the model's own forward, so that every architecture keeps its own rules.

Blocks before the start are replaced by stubs that pass the remembered output on; indices and attributes stay as they
were. Shape legend: B sequences, T tokens, D hidden, V vocabulary.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from workers.families.block_stacks import BlockOutput, as_given, joined, own_part, part_before
from workers.families.family import Family
from workers.model_inputs import Samples


class _Stub(nn.Module):
    """Stands for a skipped block: the last one of a stack gives what was remembered, others their input in its place.

    `original` is kept out of the module tree, so that its parameters do not appear twice.
    """

    def __init__(self, original: nn.Module, give: Callable[[Tensor], BlockOutput]) -> None:
        super().__init__()
        object.__setattr__(self, "_original", original)
        self._give = give

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "_original"), name)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> BlockOutput:
        return self._give(hidden)


class _StopForwardError(Exception):
    """Ends a forward after the block that was asked for."""


class BlockRunner:
    """A model whose forward can start at a block and remember block outputs."""

    def __init__(self, model: Any, family: Family) -> None:
        """Find the model's lists of blocks, as its family says."""
        self.model, self.family = model, family
        stacks = family.stages(model)
        self._places = [(name, blocks, index) for name, blocks in stacks for index in range(len(blocks))]
        self._second = len(stacks[0][1])
        self._before: BlockOutput = None  # what the first of two stacks gave last
        self._is_recording = False

    @property
    def num_blocks(self) -> int:
        """Return the number of transformer blocks."""
        return len(self._places)

    @property
    def starts(self) -> tuple[int, ...]:
        """Return the indices of the first blocks of all stacks."""
        return (0,) if self._second == self.num_blocks else (0, self._second)

    def logits(self, samples: Samples, outputs: list[BlockOutput] | None = None, start: int = 0) -> Tensor:
        """Return (B, T, V) logits, running blocks `start` and later.

        Args:
            samples: B of them.
            outputs: remembered outputs of blocks; read at `start - 1`, and replaced from `start` on.
            start: first block to run.

        """
        if outputs is None:
            return self._forward(samples)
        kept, outputs[start:] = outputs[:start], []
        hooks = [self._hook(i, outputs.append) for i in range(start, self.num_blocks)]
        try:
            if not start:
                return self._forward(samples)
            with self._stubs(start, kept[-1]):
                return self._forward(samples)
        finally:
            for hook in hooks:
                hook.remove()

    def run_block(self, index: int, samples: Samples, previous: BlockOutput) -> BlockOutput:
        """Return the output of block `index` alone, given the output of the block before it."""
        found: list[BlockOutput] = []

        def stop(output: BlockOutput) -> None:
            found.append(output)
            raise _StopForwardError

        hook = self._hook(index, stop)
        try:
            with self._stubs(index, previous):
                self._forward(samples)
        except _StopForwardError:
            pass
        finally:
            hook.remove()
        return found[0]

    def run_to_head(self, head: nn.Module | None, samples: Samples, previous: BlockOutput) -> None:
        """Run what lies between the last block and a head, for hooks: large vocabularies' logits are not computed."""
        if head is None:
            self.logits(samples, [None] * (self.num_blocks - 1) + [previous], self.num_blocks)
            return

        def stop(_module: nn.Module, _inputs: Any) -> None:
            raise _StopForwardError

        hook = head.register_forward_pre_hook(stop)
        try:
            with self._stubs(self.num_blocks, previous), suppress(_StopForwardError):
                self._forward(samples)
        finally:
            hook.remove()

    def block_name(self, index: int) -> str:
        """Return the dotted name of a transformer block."""
        name, _, place = self._places[index]
        return f"{name}.{place}"

    def block(self, index: int) -> nn.Module:
        """Return a transformer block."""
        _, blocks, place = self._places[index]
        return blocks[place]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Let forwards inside the context be differentiated."""
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def _hook(self, index: int, take: Callable[[BlockOutput], None]) -> Any:
        """Have a block's output taken, that of a second stack with what the first one gave."""

        def hook(_module: nn.Module, _inputs: Any, output: BlockOutput) -> None:
            take(output if index < self._second else joined(output, self._before))

        return self.block(index).register_forward_hook(hook)

    def _forward(self, samples: Samples) -> Tensor:
        hooks = []
        if self._second < self.num_blocks:
            hooks.append(self.block(self._second - 1).register_forward_hook(self._remember))
        try:
            with torch.set_grad_enabled(self._is_recording):
                return self.family.answers(self.model(**self.family.inputs(samples)))
        finally:
            for hook in hooks:
                hook.remove()

    def _remember(self, _module: nn.Module, _inputs: Any, output: BlockOutput) -> None:
        self._before = output

    @contextmanager
    def _stubs(self, start: int, output: BlockOutput) -> Iterator[None]:
        originals = [self.block(i) for i in range(start)]
        for i, original in enumerate(originals):
            _, blocks, place = self._places[i]
            blocks[place] = _Stub(original, self._given(i, start, output))
        try:
            yield
        finally:
            for i, original in enumerate(originals):
                _, blocks, place = self._places[i]
                blocks[place] = original

    def _given(self, index: int, start: int, output: BlockOutput) -> Callable[[Tensor], BlockOutput]:
        """Return what stands for block `index` gives, where a forward begins at `start` with the output before it."""
        is_last = index == start - 1
        if start <= self._second:
            return (lambda _: output) if is_last else (lambda hidden: as_given(hidden, output))
        if index >= self._second:
            return lambda hidden: own_part(output, hidden) if is_last else as_given(hidden, output)
        before = self._before
        if index == self._second - 1:
            return lambda hidden: as_given(part_before(output, hidden), before)
        return lambda hidden: as_given(hidden, before)
