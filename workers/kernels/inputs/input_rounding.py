"""Inputs of products rounded as the runtime of their level rounds them.

By hooks on linear layers, or on the way to weights that no layer holds, such as stacks of experts.
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from space.level import Level
from space.plan import Plan
from workers.kernels.followed_weight import put_followed, put_plain
from workers.kernels.inputs.input_table import rounding_of


class InputRounding:
    """Rounds inputs of modules at levels; modules that read the same inputs alike (q, k and v) share what comes."""

    def __init__(self) -> None:
        """Round nothing."""
        self._hooks: dict[str, list[Any]] = {}
        self._followed: dict[str, list[tuple[nn.Module, str]]] = {}
        self._last: tuple[Tensor, int, tuple[str, int | None], Tensor] | None = None

    def begin(self, name: str, places: Collection[tuple[nn.Module, str]], level: Level) -> None:
        """Round as a level says from now on; an embedding's inputs are no numbers, and stay.

        Args:
            name: of a weight.
            places: (module, its parameter) wherever the weight is.
            level: of it.

        """
        self.end(name)
        if not level.rounded_inputs:
            return
        layers = [module for module, _ in places if isinstance(module, nn.Linear)]
        self._hooks[name] = [module.register_forward_pre_hook(self._hook(level)) for module in layers]
        others = [place for place in places if not isinstance(place[0], nn.Linear | nn.Embedding)]
        for module, last in others:
            put_followed(module, last, module.get_parameter(last), given=rounding_of(level))
        self._followed[name] = others

    def end(self, name: str) -> None:
        """Round nothing for a weight any more."""
        for hook in self._hooks.pop(name, ()):
            hook.remove()
        for module, last in self._followed.pop(name, ()):
            put_plain(module, last)

    def _hook(self, level: Level) -> Any:
        rounding, alike = rounding_of(level), (level.rounded_inputs, level.group_size)

        def pass_rounded(_module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            (source,) = inputs
            last = self._last
            if last is None or last[0] is not source or last[1:3] != (source._version, alike):  # noqa: SLF001
                last = (source, source._version, alike, rounding(source))  # noqa: SLF001
                self._last = last
            return (last[3],)

        return pass_rounded


def round_inputs(model: Any, plan: Plan) -> None:
    """Have a whole model round inputs as a plan's levels say from now on, those of heads that are tied too."""
    modules, rounding = dict(model.named_modules()), InputRounding()
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for name, level in plan.levels:
        if not level.is_stored:
            continue
        owner, _, last = (name if name not in modules else f"{name}.weight").rpartition(".")
        is_tied = head is not None and name in modules and getattr(head, "weight", None) is modules[name].weight
        users = dict.fromkeys([modules[owner], *([head] if is_tied else [])])
        rounding.begin(name, [(user, last) for user in users], level)
