"""Inputs of linear layers rounded as the runtime of their level rounds them, by hooks on a model's modules."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn

from space.level import Level
from workers.kernels.inputs.input_table import ROUNDED


class InputRounding:
    """Rounds inputs of modules at levels; modules that read the same inputs alike (q, k and v) share what comes."""

    def __init__(self) -> None:
        """Round nothing."""
        self._hooks: dict[str, list[Any]] = {}
        self._last: tuple[Tensor, int, str, Tensor] | None = None

    def begin(self, name: str, modules: Iterable[nn.Module], level: Level) -> None:
        """Round as a level says from now on; an embedding's inputs are no numbers, and stay."""
        self.end(name)
        if not level.rounded_inputs:
            return
        linear = [module for module in modules if isinstance(module, nn.Linear)]
        self._hooks[name] = [module.register_forward_pre_hook(self._hook(level.rounded_inputs)) for module in linear]

    def end(self, name: str) -> None:
        """Round nothing for a module any more."""
        for hook in self._hooks.pop(name, ()):
            hook.remove()

    def _hook(self, format_name: str) -> Any:
        def pass_rounded(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (source,) = inputs
            last = self._last
            if last is None or last[0] is not source or last[1:3] != (source._version, format_name):  # noqa: SLF001
                last = (source, source._version, format_name, ROUNDED[format_name](source))  # noqa: SLF001
                self._last = last
            return (last[3],)

        return pass_rounded
