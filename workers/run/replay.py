"""Calls inside one block that need not be made again: those whose inputs and weights are what they were.

When a block is run again on the same batch with some modules changed, a call is answered from memory where it ended
before the first changed module began, or where its inputs are the very tensors that it had (k and v beside a changed
q). A remembered tensor that was written to since is not used, nor the answer of a module that is called twice.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(slots=True)
class _Call:
    """The last call of a module, and when calls of it begin and end in a run of the block."""

    begin: int
    end: int
    inputs: tuple[Tensor, ...]
    output: Any
    versions: tuple[int, ...]
    is_only: bool

    def answers(self, inputs: tuple[Tensor, ...], first_change: int) -> bool:
        is_intact = self.is_only and self.versions == _versions(self.output)
        is_same = len(inputs) == len(self.inputs) and all(a is b for a, b in zip(inputs, self.inputs, strict=True))
        return is_intact and (is_same or self.end < first_change)


@dataclass
class Replay:
    """The last calls inside one block on one batch."""

    _calls: dict[str, _Call] = field(default_factory=dict)
    _clock: int = 0

    def clear(self) -> None:
        """Forget all."""
        self._calls, self._clock = {}, 0

    @contextmanager
    def through(self, block: nn.Module, changed: Collection[str] | None) -> Iterator[None]:
        """Answer the calls of a block's modules that can be answered and remember the others, while the context lasts.

        Args:
            block: the block.
            changed: names inside the block of the modules whose weights changed since; None: nothing is known yet.

        """
        if changed is None:
            self.clear()
            changed = ()
        modules = {name: module for name, module in block.named_modules() if name}
        begins = [self._begin(name, modules) for name in changed]
        own = {name: module.__dict__["forward"] for name, module in modules.items() if "forward" in module.__dict__}
        for name, module in modules.items():
            may_answer = not any(c == name or c.startswith(f"{name}.") for c in changed)
            module.forward = self._watched(name, module.forward, min(begins, default=0), may_answer=may_answer)
        try:
            yield
        finally:
            for name, module in modules.items():
                del module.forward
                if name in own:
                    module.forward = own[name]

    def _watched(
        self, name: str, original: Callable[..., Any], first_change: int, *, may_answer: bool
    ) -> Callable[..., Any]:
        entered = False

        def forward(*args: Any, **kwargs: Any) -> Any:
            nonlocal entered
            inputs, known = _tensors((args, tuple(kwargs.values()))), self._calls.get(name)
            if known is not None and not entered and may_answer and known.answers(inputs, first_change):
                return known.output
            begin = self._tick()
            output = original(*args, **kwargs)
            call = _Call(begin, self._tick(), inputs, output, _versions(output), is_only=not entered)
            if (known := self._calls.get(name)) is not None:  # times are those of the first run
                call.begin, call.end = known.begin, call.end if entered else known.end
                call.is_only = known.is_only and not entered
            self._calls[name], entered = call, True
            return output

        return forward

    def _begin(self, name: str, modules: Mapping[str, nn.Module]) -> int:
        """Return when the call begins that a changed weight is used in; 0: nobody knows.

        A stack of experts is no module: the one that has it uses it.
        """
        while name and name not in modules:
            name = name.rpartition(".")[0]
        return self._calls[name].begin if name in self._calls else 0

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def _tensors(value: Any) -> tuple[Tensor, ...]:
    """Return the tensors in a value, however deep."""
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, dict):
        value = tuple(value.values())
    return tuple(t for inner in value for t in _tensors(inner)) if isinstance(value, (tuple, list)) else ()


def _versions(output: Any) -> tuple[int, ...]:
    """Return how often each tensor of an output was written to."""
    return tuple(t._version for t in _tensors(output))  # noqa: SLF001 (torch has no other name for it)
