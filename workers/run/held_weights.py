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
from workers.families.load_modules import dense_copy, load_mapped
from workers.kernels.inputs.input_rounding import InputRounding
from workers.kernels.stacks import as_matrix, as_parameter

Unpack = Callable[[str, Level, torch.Size], Tensor]
"""(module name, level, shape) -> weight"""


class Resident:
    """A model whose modules are held and released by name."""

    def __init__(self, folder: Path, inventory: Inventory, device: str) -> None:
        """Map the model; nothing is held."""
        self._folder, self._device = folder, device
        self._modules: Mapping[str, ModuleInfo] = {m.name: m for m in inventory.modules}
        self._stored = load_mapped(folder, device, {m.parameter for m in inventory.modules})
        self.model = self._stored.model
        named = dict(self.model.named_modules())
        self._users: Mapping[str, list[tuple[nn.Module, str]]] = {
            m.name: [(named[owner], last) for owner, last in _places(m)] for m in inventory.modules
        }
        self._mapped: Mapping[str, nn.Parameter] = {
            name: users[0][0].get_parameter(users[0][1]) for name, users in self._users.items()
        }
        self._held: dict[str, Level] = {}
        self._rounding = InputRounding()

    def hold(self, levels: Iterable[tuple[str, Level]], unpack: Unpack) -> None:
        """Put modules at levels; those that are there already cost nothing.

        Raises:
            ModelError: a dense weight is not finite.

        """
        for name, level in levels:
            if self._held.get(name) != level:
                self._put(name, self._dense(name) if level.is_dense else self._unpacked(name, level, unpack))
                self._held[name] = level
                self._rounding.begin(name, [module for module, _ in self._users[name]], level)

    def release(self, names: Iterable[str]) -> None:
        """Give the memory of modules back."""
        for name in names:
            if self._held.pop(name, None) is not None:
                self._point(name, self._mapped[name])
                self._rounding.end(name)

    def dense_weight(self, name: str) -> Tensor:
        """Return a (rows, columns) float32 weight of the checkpoint, on the CPU."""
        module = self._modules[name]
        if module.site is None:
            return self._mapped[name].to("cpu", torch.float32)
        return as_matrix(self._stored.tensor(module.parameter), module.site).to("cpu", torch.float32)

    def _dense(self, name: str) -> Tensor:
        module = self._modules[name]
        stored = self._mapped[name] if module.site is None else self._stored.tensor(module.parameter)
        return dense_copy(self._folder, module.weight.name, stored, self._device)

    def _unpacked(self, name: str, level: Level, unpack: Unpack) -> Tensor:
        site = self._modules[name].site
        if site is None:
            return unpack(name, level, self._mapped[name].shape)
        return as_parameter(unpack(name, level, torch.Size(site.matrix_shape)), site)

    def _put(self, name: str, weight: Tensor) -> None:
        owner, last = self._users[name][0]
        if name in self._held:
            owner.get_parameter(last).copy_(weight)
        else:
            value = weight.to(self._device, compute_dtype(self._device))
            self._point(name, nn.Parameter(value, requires_grad=False))

    def _point(self, name: str, parameter: nn.Parameter) -> None:
        for module, last in self._users[name]:
            setattr(module, last, parameter)


def _places(module: ModuleInfo) -> list[tuple[str, str]]:
    """Return (module, parameter of it) wherever a weight is used."""
    owner, _, last = module.parameter.rpartition(".")
    return [(owner, last), *((copy, "weight") for copy in module.tied)]
