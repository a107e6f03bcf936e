"""Parameters that no checkpoint stores, since transformers computes them: tables of positions, such as Marian's."""

from typing import Any

import torch
from torch import Tensor, nn

_SEEDS = (0, 1)


def computed_parameter(model: Any, name: str) -> Tensor | None:
    """Return a parameter's value as transformers computes it, in float32; None where that draws numbers.

    Args:
        model: whose rules make it; its own parameter stays as it is.
        name: of the parameter.

    """
    place, _, last = name.rpartition(".")
    owner = model.get_submodule(place)
    given, found = owner._parameters[last], list[Tensor]()  # noqa: SLF001 (torch has no other way that keeps ties)
    try:
        for seed in _SEEDS:
            with torch.device("cpu"), torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                owner._parameters[last] = nn.Parameter(torch.full(given.shape, torch.nan), requires_grad=False)  # noqa: SLF001
                model._init_weights(owner)  # noqa: SLF001 (transformers has no other)
                found.append(owner._parameters[last].detach().clone())  # noqa: SLF001
    finally:
        owner._parameters[last] = given  # noqa: SLF001
    return found[0] if found[0].equal(found[1]) else None
