"""Processes that train one model together: each takes a part of every batch, and holds a part of what is trained.

`none` keeps all in each process; `zero-1` divides the optimizer's moments (torch's ZeroRedundancyOptimizer), `zero-2`
gradients too, and `zero-3` what is trained itself (torch's fully_shard, without and with resharding after a block's
forward; arXiv 1910.02054, section 5). Frozen weights are mapped from their files, which processes share.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_BY_PARAMETER = ("zero-2", "zero-3")
Parameters = Mapping[str, nn.Parameter]
MakeOptimizer = Callable[..., torch.optim.Optimizer]
"""(parameters, lr=...) -> an optimizer"""


@dataclass(frozen=True, slots=True)
class Crew:
    """One process among those that train together; all of its methods are called by all of them.

    Attributes:
        sharding: one of `SHARDINGS`.
        rank: of this process.
        size: how many there are.

    """

    sharding: str = "none"
    rank: int = 0
    size: int = 1

    def divide(self, blocks: list[nn.Module], model: nn.Module, parameters: Parameters) -> None:
        """Divide what is trained among the processes, where the sharding does so; blocks are gathered one by one."""
        if self.size == 1 or self.sharding not in _BY_PARAMETER:
            return
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        device = next(iter(parameters.values())).device.type
        mesh = init_device_mesh(device, (self.size,))
        trained = {id(p) for p in parameters.values()}
        frozen = {p for p in model.parameters() if id(p) not in trained}
        again = self.sharding == "zero-3"
        for block in blocks:
            fully_shard(block, mesh=mesh, reshard_after_forward=again, ignored_params=frozen)
        fully_shard(model, mesh=mesh, reshard_after_forward=again, ignored_params=frozen)

    def optimizer(self, make: MakeOptimizer, parameters: Parameters, learning_rate: float) -> torch.optim.Optimizer:
        """Return an optimizer of what is trained."""
        values = list(parameters.values())
        if self.size > 1 and self.sharding == "zero-1":
            from torch.distributed.optim import ZeroRedundancyOptimizer

            return ZeroRedundancyOptimizer(values, optimizer_class=make, lr=learning_rate)  # type: ignore[arg-type]
        return make(values, lr=learning_rate)

    def own(self, indices: Tensor) -> Tensor:
        """Return this process' part of the samples of a step; all of them where they cannot be divided evenly."""
        return indices[self.rank :: self.size] if len(indices) % self.size == 0 else indices

    def average_gradients(self, parameters: Parameters) -> None:
        """Make gradients the mean of those of all processes, where the sharding has not done so."""
        if self.size == 1 or self.sharding in _BY_PARAMETER:
            return
        found = [p.grad for p in parameters.values() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in found])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for gradient, part in zip(found, flat.split([g.numel() for g in found]), strict=True):
            gradient.copy_(part.view(gradient.shape))

    def mean(self, value: float) -> float:
        """Return the mean of all processes' values."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        torch.distributed.all_reduce(found)
        return float(found) / self.size

    def agreed(self, value: float) -> float:
        """Return the first process' value."""
        if self.size == 1:
            return value
        found = torch.tensor(value, dtype=torch.float64)
        torch.distributed.broadcast(found, 0)
        return float(found)

    def whole(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return values that may be divided as whole ones."""
        return {name: _whole(value) for name, value in values.items()}

    def moments(self, optimizer: Any, parameters: Parameters) -> dict[str, dict[str, Tensor]]:
        """Return what the optimizer keeps of each parameter, whole; with `zero-1` to the first process alone."""
        if self.size > 1 and self.sharding == "zero-1":
            optimizer.consolidate_state_dict(to=0)
            if self.rank:
                return {}
            state = optimizer.state_dict()["state"]
            return {name: state[i] for i, name in enumerate(parameters) if i in state}
        found = {name: optimizer.state[p] for name, p in parameters.items() if p in optimizer.state}
        return {name: self.whole(moments) for name, moments in found.items()}

    def remember(self, optimizer: Any, parameter: nn.Parameter, moments: Mapping[str, Tensor]) -> None:
        """Give the optimizer what it kept of a parameter, whole."""
        inner = optimizer.optim if self.size > 1 and self.sharding == "zero-1" else optimizer
        if any(parameter is p for group in inner.param_groups for p in group["params"]):
            inner.state[parameter] = {
                name: value if value.dim() == 0 else as_divided(value, parameter) for name, value in moments.items()
            }


ALONE = Crew()


def as_divided(value: Tensor, like: Tensor) -> Tensor:
    """Return a whole value divided as another one is; as it is where that is whole."""
    if not _is_divided(like):
        return value.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    divided: Any = like
    return distribute_tensor(value.to(like.device), divided.device_mesh, divided.placements)


def _whole(value: Any) -> Tensor:
    found: Tensor = value.full_tensor() if _is_divided(value) else value
    return found


def _is_divided(value: Any) -> bool:
    return hasattr(value, "full_tensor")
