"""The weights that a worker holds: modules at the levels of a plan, in the type that is computed in.

Levels come from the memory-mapped store and dense weights from the memory-mapped checkpoint, so that a worker holds
each weight at most once, however many levels there are; a module that is not held is the checkpoint's own, and costs
no memory.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from space.inventory import Inventory, ModuleInfo
from space.level import Level
from workers.devices import compute_dtype
from workers.families.load_modules import dense_copy, load_model

Unpack = Callable[[str, Level, torch.Size], Tensor]
"""(module name, level, shape) -> weight"""


class Resident:
    """A model whose modules are held and released by name."""

    def __init__(self, folder: Path, inventory: Inventory, device: str) -> None:
        """Map the model; nothing is held."""
        self._folder, self._device = folder, device
        self.model = load_model(folder, device, {m.weight.name for m in inventory.modules})
        named = dict(self.model.named_modules())
        self._users = {m.name: [named[n] for n in (m.name, *m.tied)] for m in inventory.modules}
        self._modules: Mapping[str, ModuleInfo] = {m.name: m for m in inventory.modules}
        self._mapped: Mapping[str, nn.Parameter] = {n: users[0].weight for n, users in self._users.items()}
        self._held: dict[str, Level] = {}

    def hold(self, levels: Iterable[tuple[str, Level]], unpack: Unpack) -> None:
        """Put modules at levels; those that are there already cost nothing.

        Raises:
            ModelError: a dense weight is not finite.

        """
        for name, level in levels:
            if self._held.get(name) != level:
                self._put(name, self._dense(name) if level.is_dense else unpack(name, level, self._mapped[name].shape))
                self._held[name] = level

    def release(self, names: Iterable[str]) -> None:
        """Give the memory of modules back."""
        for name in names:
            if self._held.pop(name, None) is not None:
                self._point(name, self._mapped[name])

    def dense_weight(self, name: str) -> Tensor:
        """Return a (rows, columns) float32 weight of the checkpoint, on the CPU."""
        return self._mapped[name].to("cpu", torch.float32)

    def _dense(self, name: str) -> Tensor:
        return dense_copy(self._folder, self._modules[name].weight.name, self._mapped[name], self._device)

    def _put(self, name: str, weight: Tensor) -> None:
        current = self._users[name][0].weight
        if name in self._held:
            current.copy_(weight)
        else:
            value = weight.to(self._device, compute_dtype(self._device))
            self._point(name, nn.Parameter(value, requires_grad=False))

    def _point(self, name: str, parameter: nn.Parameter) -> None:
        for module in self._users[name]:
            module.weight = parameter
