"""Run a model from any block on, through the model's own forward, so that every architecture keeps its own rules.

Blocks before the start are replaced by stubs that pass the remembered output on; indices and attributes stay as they
were. Shape legend: B sequences, T tokens, D hidden, V vocabulary.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from workers.families.family import Family
from workers.model_inputs import Samples

BlockOutput = Any  # a (B, T, D) tensor, or a tuple that starts with one, as the architecture returns it


class _Stub(nn.Module):
    """Stands for a skipped block: the last one returns the remembered output, others their input in its place.

    `original` is kept out of the module tree, so that its parameters do not appear twice.
    """

    def __init__(self, original: nn.Module, output: BlockOutput, *, is_last: bool) -> None:
        super().__init__()
        object.__setattr__(self, "_original", original)
        self._output, self._is_last = output, is_last

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(object.__getattribute__(self, "_original"), name)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> BlockOutput:
        if self._is_last:
            return self._output
        return (hidden, *self._output[1:]) if isinstance(self._output, tuple) else hidden


class _StopForwardError(Exception):
    """Ends a forward after the block that was asked for."""


class BlockRunner:
    """A model whose forward can start at a block and remember block outputs."""

    def __init__(self, model: Any, family: Family) -> None:
        """Find the model's list of blocks, as its family says."""
        self.model, self.family = model, family
        self._prefix, self._blocks = family.stages(model)
        self._is_recording = False

    @property
    def num_blocks(self) -> int:
        """Return the number of transformer blocks."""
        return len(self._blocks)

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
        hooks = [b.register_forward_hook(lambda _m, _i, out: outputs.append(out)) for b in self._blocks[start:]]
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

        def stop(_module: nn.Module, _inputs: Any, output: BlockOutput) -> None:
            found.append(output)
            raise _StopForwardError

        hook = self._blocks[index].register_forward_hook(stop)
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
        return f"{self._prefix}.{index}"

    def block(self, index: int) -> nn.Module:
        """Return a transformer block."""
        return self._blocks[index]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Let forwards inside the context be differentiated."""
        self._is_recording = True
        try:
            yield
        finally:
            self._is_recording = False

    def _forward(self, samples: Samples) -> Tensor:
        with torch.set_grad_enabled(self._is_recording):
            return self.family.answers(self.model(**self.family.inputs(samples)))

    @contextmanager
    def _stubs(self, start: int, output: BlockOutput) -> Iterator[None]:
        originals = [self._blocks[i] for i in range(start)]
        for i, original in enumerate(originals):
            self._blocks[i] = _Stub(original, output, is_last=i == start - 1)
        try:
            yield
        finally:
            for i, original in enumerate(originals):
                self._blocks[i] = original
