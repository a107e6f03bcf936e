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
from space.site import Site
from workers.devices import compute_dtype
from workers.families.load_modules import dense_copy, load_mapped
from workers.kernels.inputs.input_rounding import InputRounding
from workers.kernels.key_values.remembering import Remembering
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
        self._stacks: dict[str, set[str]] = {}  # parameter -> its experts that are held apart
        self._rounding = InputRounding()
        self._remembering = Remembering({c.name: named[c.name.rpartition(".")[0]] for c in inventory.caches})

    def hold(self, levels: Iterable[tuple[str, Level]], unpack: Unpack) -> None:
        """Put modules and caches at levels; those that are there already cost nothing.

        Raises:
            ModelError: a dense weight is not finite.

        """
        for name, level in levels:
            if name not in self._modules:
                self._remembering.begin(name, level)
            elif self._held.get(name) != level:
                self._rounding.end(name)
                self._put(name, self._dense(name) if level.is_dense else self._unpacked(name, level, unpack))
                self._held[name] = level
                self._rounding.begin(name, self._users[name], level)

    def release(self, names: Iterable[str]) -> None:
        """Give the memory of modules back."""
        for name in names:
            if name not in self._modules:
                self._remembering.end(name)
            if self._held.pop(name, None) is None:
                continue
            self._rounding.end(name)
            others = self._stacks.get(self._modules[name].parameter, set())
            others.discard(name)
            if not others:
                self._point(name, self._mapped[name])

    def dense_weight(self, name: str) -> Tensor:
        """Return a (rows, columns) float32 weight of the checkpoint, on the CPU."""
        module = self._modules[name]
        if module.site is None:
            return self._mapped[name].to("cpu", torch.float32)
        return as_matrix(self._site_value(module.site), module.site).to("cpu", torch.float32)

    def _site_value(self, site: Site) -> Tensor:
        return self._stored.tensor(site.parameter) if site.expert is None else self._stored.expert(site)

    def _dense(self, name: str) -> Tensor:
        module = self._modules[name]
        stored = self._mapped[name] if module.site is None else self._site_value(module.site)
        return dense_copy(self._folder, module.weight.name, stored, self._device)

    def _unpacked(self, name: str, level: Level, unpack: Unpack) -> Tensor:
        site = self._modules[name].site
        if site is None:
            return unpack(name, level, self._mapped[name].shape)
        return as_parameter(unpack(name, level, torch.Size(site.matrix_shape)), site)

    def _put(self, name: str, weight: Tensor) -> None:
        (owner, last), site = self._users[name][0], self._modules[name].site
        if site is not None and site.expert is not None:
            self._stack(name, site)[site.expert].copy_(weight)
        elif name in self._held:
            owner.get_parameter(last).copy_(weight)
        else:
            value = weight.to(self._device, compute_dtype(self._device))
            self._point(name, nn.Parameter(value, requires_grad=False))

    def _stack(self, name: str, site: Site) -> Tensor:
        """Return the parameter in memory that experts are put into one by one."""
        owner, last = self._users[name][0]
        held = self._stacks.setdefault(site.parameter, set())
        if not held:
            empty = torch.zeros(site.shape, dtype=compute_dtype(self._device), device=self._device)
            self._point(name, nn.Parameter(empty, requires_grad=False))
        held.add(name)
        return owner.get_parameter(last)

    def _point(self, name: str, parameter: nn.Parameter) -> None:
        for module, last in self._users[name]:
            setattr(module, last, parameter)


def _places(module: ModuleInfo) -> list[tuple[str, str]]:
    """Return (module, parameter of it) wherever a weight is used."""
    owner, _, last = module.parameter.rpartition(".")
    return [(owner, last), *((copy, "weight") for copy in module.tied)]
